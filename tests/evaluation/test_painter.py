import os
import signal

import pytest
from evaluations import random_predictions

from vjepa_mlflow.evaluation import painter, painting, plot_calibration, plot_confusion
from vjepa_mlflow.evaluation.figures import draw
from vjepa_mlflow.runtime.processes import ForkServer


@pytest.fixture(autouse=True)
def own_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(painter, "ForkServer", ForkServer)


def test_figures_are_drawn_by_other_processes_as_by_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = random_predictions(videos=30, classes=3)
    expected = [draw(plot_confusion(predictions)), draw(plot_calibration(predictions))]
    monkeypatch.setattr(painter, "_draw", None)  # of this process
    with painting() as beside:
        pictures = [beside.begin(plot, predictions) for plot in (plot_confusion, plot_calibration)]
        assert [picture.png() for picture in pictures] == expected
        assert beside.work_out(os.getpid) != os.getpid()


def test_figures_are_drawn_where_processes_are_killed() -> None:
    predictions = random_predictions(videos=30, classes=3)
    with painting() as beside:
        begun = beside.begin(os.kill, 0, signal.SIGKILL)  # of all there: it is in a session of its own
        begun._figure = lambda: plot_confusion(predictions)
        beside._server._command = ["false"]
        pictures = [begun, beside.begin(plot_confusion, predictions)]
        assert [picture.png() for picture in pictures] == [draw(plot_confusion(predictions))] * 2
        assert beside.work_out(os.getpid) == os.getpid()


def test_its_processes_end_with_the_block_also_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), painting() as beside:
        raise ZeroDivisionError
    assert beside._server._process.poll() is not None
