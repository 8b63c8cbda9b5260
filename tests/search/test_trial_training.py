"""When a trial's training stops, and what is kept of it; the training itself is another's."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna import TrialPruned

from vjepa_mlflow import Recipe, UserError
from vjepa_mlflow.search import trial_training
from vjepa_mlflow.search.trial_training import InterruptedTrial, TrialTraining


class State:
    """Of a training, whose snapshot is a file with its epochs' number."""

    def __init__(self, epochs: int):
        self.epochs = [{"val_accuracy": 0.5}] * epochs

    def snapshot(self) -> "State":
        return self

    def write(self, path: Path) -> None:
        path.write_text(str(len(self.epochs)))


class Reports:
    def __init__(self, hopeless_from: int = 99) -> None:
        self.events: list[str] = []
        self._hopeless_from = hopeless_from

    def reporting(self) -> Any:
        return nullcontext()

    def report(self, state: State) -> bool:
        self.events.append(f"report {len(state.epochs)}")
        return len(state.epochs) >= self._hopeless_from

    def wait(self) -> bool:
        self.events.append("wait")
        return False


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs that end at once, from those of a checkpoint on."""

    def fit(*_: Any, recipe: Recipe, on_epoch: Any, resume: State | None, **options: Any) -> State:
        begin = 0 if resume is None else len(resume.epochs)
        for epoch in range(begin + 1, recipe.epochs + 1):
            on_epoch(State(epoch))
        return State(recipe.epochs)

    def read_snapshot(path: Path) -> State:
        if not path.read_text():
            raise UserError(f"{path}: it is damaged")
        return State(int(path.read_text()))

    monkeypatch.setattr(trial_training.training, "fit", fit)
    monkeypatch.setattr(trial_training.training, "read_snapshot", read_snapshot)
    monkeypatch.setattr(trial_training.features, "TrainingSet", lambda *_: None)
    monkeypatch.setattr(trial_training.features, "EvaluationSet", SimpleNamespace(of_split=lambda *_: None))
    monkeypatch.setattr(trial_training, "threads_of_run", lambda *_: nullcontext())


def run(checkpoint: Path, reports: Reports, *, stop_after: int = 99, noted: list[int] | None = None) -> Any:
    looks: list[None] = []
    head = SimpleNamespace(load_state_dict=lambda _: None)
    setup: Any = SimpleNamespace(
        passes=SimpleNamespace(head=head),
        first_weights={},
        prepared=SimpleNamespace(dataset=None),
        source=None,
        threads=1,
    )
    log: Any = None
    fake: Any = reports
    return TrialTraining(
        Recipe(epochs=4),
        checkpoint,
        fake,
        note_checkpoint=([] if noted is None else noted).append,
        stopping=lambda: len(looks) >= stop_after,
        look=lambda: looks.append(None),
    ).run(setup, log, "val_accuracy")


def test_a_trial_that_is_stopped_goes_on_from_its_checkpoint(tmp_path: Path, no_training: None) -> None:
    path, noted, reports = tmp_path / "0", list[int](), Reports()
    with pytest.raises(InterruptedTrial):
        run(path, reports, stop_after=2, noted=noted)
    assert path.read_text() == "2"
    assert reports.events == ["report 1", "report 2", "wait"]  # before the checkpoint has the epoch
    again = Reports()
    assert len(run(path, again, noted=noted).epochs) == 4
    assert again.events == ["report 3", "report 4", "report 4"]
    assert noted == [2, 2]


def test_a_trial_without_hope_is_pruned_but_not_after_its_last_epoch(tmp_path: Path, no_training: None) -> None:
    with pytest.raises(TrialPruned):
        run(tmp_path / "0", Reports(hopeless_from=3))
    assert len(run(tmp_path / "0", Reports(hopeless_from=4)).epochs) == 4


def test_a_damaged_checkpoint_is_left_out(
    tmp_path: Path, no_training: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "0").write_text("")
    noted: list[int] = []
    reports = Reports()
    run(tmp_path / "0", reports, noted=noted)
    assert reports.events[0] == "report 1"
    assert not noted


def test_a_full_disk_costs_no_trial(tmp_path: Path, no_training: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(State, "write", write)
    monkeypatch.setattr(trial_training.CheckpointClock, "is_due", lambda _: True)
    noted: list[int] = []
    assert len(run(tmp_path / "0", Reports(), noted=noted).epochs) == 4
    assert not noted
