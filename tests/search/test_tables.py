from vjepa_mlflow.search import SweepPlan, TrialQueue, compare, describe_trial, trial_rows


def test_the_tables(ended: TrialQueue, plan: SweepPlan) -> None:
    trials = ended.trials()
    rows = trial_rows(trials, plan)
    assert [row["state"] for row in rows] == ["COMPLETE"] * 4 + ["PRUNED", "FAIL"]
    assert rows[0]["learning_rate"] == 1e-5
    assert rows[5]["failure"] == "training loss became nan"
    assert describe_trial(trials[0], plan) == (
        "Trial   0  COMPLETE  val_accuracy 0.4000  learning_rate 1e-05  gradient_accumulation_steps 4  1.5 s"
    )
    assert "FAIL      training loss became nan" in describe_trial(trials[5], plan)
    head, baseline, best, difference = compare(trials, plan, seconds=12.0).splitlines()
    assert head.split() == ["trial", "val_accuracy", "learning_rate", "gradient_accumulation_steps", "time"]
    assert baseline.split() == ["baseline", "0", "0.4000", "1e-05", "4", "1.5", "s"]
    assert best.split()[:3] == ["best", "2", "0.8000"]
    assert difference.split() == ["difference", "+0.4000", "12.0", "s", "for", "this", "command"]


def test_without_a_completed_trial_the_baseline_stands_alone(ended: TrialQueue, plan: SweepPlan) -> None:
    head, baseline = compare(ended.trials()[5:], plan, seconds=1.0).splitlines()
    assert head.split()[0] == "trial"
    assert baseline.split()[:3] == ["baseline", "5", "FAIL"]
