"""What one looks at after a sweep, logged to its run: the table of trials, and pictures of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vjepa_mlflow import evaluation, search, tracking


def draw_study(
    log: tracking.RunLog, painter: evaluation.Painter, trials: Sequence[search.SweepTrial], plan: search.SweepPlan
) -> dict[str, evaluation.Picture]:
    """Logs the table of trials, and begins to draw the pictures, as far as the study has come."""
    if not any(trial.ended for trial in trials):
        return {}
    log.table(search.trial_rows(trials, plan), "trials.csv")
    plots = {
        "optimization_history": search.plot_history,
        "search_space": search.plot_pair,
        "intermediate_values": search.plot_epochs,
        "param_importances": search.plot_importances,
    }
    return {name: painter.begin(plot, trials, plan) for name, plot in plots.items()}


def log_pictures(log: tracking.RunLog, pictures: Mapping[str, evaluation.Picture], *, step: int) -> None:
    """Logs the pictures, which are waited for."""
    for name, picture in pictures.items():
        log.png(picture.png(), f"{name}.png", step=step)
