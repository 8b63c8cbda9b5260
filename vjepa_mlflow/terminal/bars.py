"""Progress bars, and lines that do not run into them."""

import os
import sys
import threading
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

SIZE = {"ncols": 80, "nrows": 24}
"""Of a terminal that does not say how large it is, where tqdm would show nothing."""


class Bar(tqdm):
    """A bar that starts nothing: tqdm's own has a thread that never ends, and a lock that processes share.

    Whoever is killed while it holds such a lock would stop the others.
    """

    monitor_interval = 0
    _lock = threading.RLock()

    @classmethod
    def shown(cls, items: Iterable[Any] | None = None, **named: Any) -> "Bar":
        """A bar with a rate, on a terminal, where there is something to do. It looks at the clock at every item."""
        size: dict[str, Any] = {"dynamic_ncols": True} if _has_size() else SIZE
        silent = True if named.get("total") == 0 else None  # with None tqdm asks whether it is a terminal
        return cls(items, miniters=1, disable=silent, **size, **named)


def _has_size() -> bool:
    """Whether the terminal says how large it is, as one that a program has opened may not."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):
        return False


os.register_at_fork(after_in_child=lambda: Bar.set_lock(threading.RLock()))
