import pytest

from vjepa_mlflow import UserError
from vjepa_mlflow.search import SweepPlan, TrialProgress, TrialQueue, progress


def test_a_line_for_each_trial_that_ends_whichever_process_ran_it(
    ended: TrialQueue, plan: SweepPlan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = ended.trials()
    monkeypatch.setattr(progress, "PAUSE", 0)
    with monkeypatch.context() as patch:
        patch.setattr(TrialQueue, "trials", lambda _: trials[:2])
        shown = TrialProgress(ended, plan)
        shown.look()
    assert capsys.readouterr().out.splitlines() == ["The study goes on: 2 of 6 trials have ended"]
    shown.look()
    shown.close()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:3] for line in lines] == [
        ["2", "COMPLETE"],
        ["3", "COMPLETE"],
        ["4", "PRUNED"],
        ["5", "FAIL"],
    ]


def test_a_storage_that_is_away_ends_no_sweep_by_its_bar(
    ended: TrialQueue, plan: SweepPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = TrialProgress(ended, plan)

    def answer_nothing(_: TrialQueue) -> None:
        raise UserError("it does not answer")

    monkeypatch.setattr(TrialQueue, "trials", answer_nothing)
    shown.close()
