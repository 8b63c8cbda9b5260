"""Figures and figures' numbers by processes beside this one: matplotlib and SciPy take seconds to import."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from vjepa_mlflow.runtime.channel import Channel
from vjepa_mlflow.runtime.processes import ForkServer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PRELOADED = (
    "matplotlib.backends.backend_agg",
    "vjepa_mlflow.evaluation.figures",
    "vjepa_mlflow.evaluation.results",
    "scipy.stats",
)
"""What draws, and what evaluates. Other modules that have functions for figures are named by who paints with them."""

Result = TypeVar("Result")

WITHOUT_THREADS = {
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Variables by which libraries start no threads in what is forked from."""


@contextmanager
def painting(*modules: str) -> Iterator[Painter]:
    """Gives a painter in the block, whose processes end with it.

    Args:
        modules: with functions for figures, besides `evaluation.figures`.
    """
    server = ForkServer(*PRELOADED, *modules, **WITHOUT_THREADS)
    try:
        yield Painter(server)
    finally:
        server.close()


class Painter:
    """Draws figures and works things out, each in a process of its own.

    Args:
        server: that they are forked from.
    """

    def __init__(self, server: ForkServer):
        self._server = server

    def begin(self, plot: Callable[..., Figure], *arguments: Any, **options: Any) -> Picture:
        """Begins to draw a figure, and returns before it is drawn.

        Args:
            plot: a module's function that makes it.
            arguments: what can be pickled.
            options: likewise.
        """
        figure = partial(plot, *arguments, **options)
        with suppress(EOFError, BrokenPipeError):  # of processes that were killed
            return Picture(figure, self._server.start(_paint, figure).channel)
        return Picture(figure, None)

    def work_out(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """What a function returns, which is waited for: its libraries need not be imported here.

        Args:
            function: a module's. Where its process died, it is called in this one.
            arguments: what can be pickled.
        """
        call = partial(function, *arguments)
        with suppress(EOFError, BrokenPipeError), closing(self._server.start(_send_result, call).channel) as channel:
            result: Result = channel.receive()[0]
            return result
        return call()


class Picture:
    """A figure that is being drawn.

    Args:
        figure: makes it.
        channel: from the process that draws it; None where none does.
    """

    def __init__(self, figure: Callable[[], Figure], channel: Channel | None):
        self._figure = figure
        self._channel = channel

    def png(self) -> bytes:
        """The PNG file's content, once, which is waited for. Where its process died, it is drawn in this one."""
        if self._channel is not None:
            with closing(self._channel), suppress(EOFError):
                content: bytes = self._channel.receive()[0]
                return content
        return _draw(self._figure)


def _paint(channel: Channel, figure: Callable[[], Figure]) -> None:
    """What a process does."""
    channel.send(_draw(figure))


def _send_result(channel: Channel, call: Callable[[], Any]) -> None:
    channel.send(call())


def _draw(figure: Callable[[], Figure]) -> bytes:
    from vjepa_mlflow.evaluation.figures import draw

    return draw(figure())
