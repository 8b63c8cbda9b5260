"""Features to the best head: the training loop."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.features import Clip, EvaluationSet, TrainingSet
from vjepa_mlflow.metrics import CURVES
from vjepa_mlflow.model import Head, form_for, head_forms, is_out_of_memory
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.iteration import batches, progress
from vjepa_mlflow.training.adam import Adam
from vjepa_mlflow.training.gradient import AccumulatedGradient, HeadPasses
from vjepa_mlflow.training.metrics import classification_metrics
from vjepa_mlflow.training.predictions import gather, predict
from vjepa_mlflow.training.snapshot import Snapshot
from vjepa_mlflow.training.state import TrainingState

COMPILING_PAYS = {"fp32": 4000, "tf32": 4000, "bf16": 20000}
"""Training clips for which compiling the head takes as long as it saves: some 8 s on an H100 for each number of clips a
step, where a clip takes about 2 ms more as it is, and in bf16 0.4."""


class DivergedError(UserError):
    """The loss is no longer a finite number: the recipe's values are to blame.

    Attributes:
        state: with the best head of the epochs before.
    """

    def __init__(self, message: str, state: TrainingState):
        super().__init__(message)
        self.state = state


def fit(
    passes: HeadPasses,
    *,
    train: TrainingSet,
    val: EvaluationSet,
    recipe: Recipe,
    on_epoch: Callable[[TrainingState], None],
    on_step: Callable[[TrainingState], None] = lambda _: None,
    metric: str = "val_accuracy",
    resume: Snapshot | None = None,
) -> TrainingState:
    """Trains the head with Adam; what is returned holds it as it was after its best epoch.

    One optimizer step sees an accumulation window of `gradient_accumulation_steps` micro-batches of `batch_size` clips.
    Its loss is the mean over the clips that the window really has, so the last, smaller one of an epoch weighs its
    clips by its own size.

    Args:
        passes: of the head, which is trained in place, on its own device.
        train: the training features.
        val: the validation features.
        recipe: the values of the run.
        on_epoch: called after each epoch with the state of things; what it raises ends the training.
        on_step: likewise, after each step and before each batch of the validation: wherever training can be resumed.
        metric: what decides which epoch is the best, one of `DIRECTIONS`.
        resume: the state of an earlier training of this recipe, which goes on there.

    Raises:
        DivergedError: the loss is no longer a finite number.
        UserError: the GPU's memory is too small.
    """
    head = passes.head
    device = next(head.parameters()).device
    clips_per_step = recipe.gradient_accumulation_steps * recipe.batch_size
    class_weights = _class_weights(train.labels, recipe.class_weights).to(device)
    gradient = AccumulatedGradient(passes, clips_per_step=clips_per_step, class_weights=class_weights)
    steps = recipe.epochs * math.ceil(len(train) / clips_per_step)
    schedule = _learning_rate_schedule(recipe.scheduler, steps=steps)
    state = _begin(passes)
    if resume is not None:
        state.load(resume)

    for epoch in range(len(state.epochs) + 1, recipe.epochs + 1):
        if recipe.patience and state.epochs and epoch > state.best.epoch + recipe.patience:
            break
        first = state.open_epoch.steps * clips_per_step
        features = train.read(epoch, first=first)
        clips = progress(
            features, total=len(train), initial=first, description=f"Epoch {epoch}/{recipe.epochs}", unit="clip"
        )

        started = time.perf_counter()
        for accumulation_window in batches(clips, clips_per_step):
            predictions = gradient.compute(accumulation_window)
            learning_rate = recipe.learning_rate * schedule(state.steps)
            with state.changing():
                state.optimizer.step(learning_rate)
                now = time.perf_counter()
                state.end_step(predictions, learning_rate, seconds=now - started)
            started = now
            on_step(state)

        open_epoch = state.open_epoch
        epoch_predictions = gather(open_epoch.predictions)
        open_epoch.seconds += time.perf_counter() - started  # for which a GPU may have been at work still
        trained = classification_metrics(*epoch_predictions)
        _check_loss("training", trained["loss"], state, recipe)
        validated = classification_metrics(
            *predict(
                head,
                val,
                precision=recipe.precision,
                name="Validation",
                on_batch=lambda: on_step(state),
                make_room=passes.forget,
            )
        )
        _check_loss("validation", validated["loss"], state, recipe)
        metrics = {
            **{f"train_{name}": trained[name] for name in CURVES},
            **{f"val_{name}": value for name, value in validated.items()},
            "learning_rate": open_epoch.learning_rate,
            "clips_per_second": len(epoch_predictions.labels) / open_epoch.seconds,
        }
        with state.changing():
            state.end_epoch(metrics, metric)
        on_epoch(state)

    return state


def readings_to_come(
    train: TrainingSet, val: EvaluationSet, recipe: Recipe, resume: Snapshot | None
) -> tuple[list[list[Clip]], int | None]:
    """The clips of each reading of `fit`, in order, and how many of them there will surely be; None: all.

    Args:
        train: as for `fit`. So are the others.
    """
    ended, best, first = 0, 1, 0
    if resume is not None:
        ended, best = len(resume.epochs), resume.best_epoch or 1
        first = resume.steps_of_open_epoch * recipe.gradient_accumulation_steps * recipe.batch_size
    readings = []
    for epoch in range(ended + 1, recipe.epochs + 1):
        readings += [train.clips(epoch)[first:], val.clips]
        first = 0
    return readings, 2 * (best + recipe.patience - ended) if recipe.patience else None


def choose_head_form(
    head: Head, recipe: Recipe, *, clips: int, accumulation_sizes: int = 1, resumed: str | None = None
) -> str:
    """The form in which a head is trained, see `model.head_forms`; heads differ in their last bits from form to form.

    Args:
        head: on its device.
        recipe: of its training.
        clips: that it is trained on, over all epochs and trials.
        accumulation_sizes: how many numbers of clips a step trials have, each of which is compiled by itself.
        resumed: the form in which the run began, where it goes on.
    """
    forms, pays = head_forms(head), COMPILING_PAYS[recipe.precision]
    return resumed if resumed in forms else form_for(forms, clips, compiling_pays=pays * accumulation_sizes)


def _begin(passes: HeadPasses) -> TrainingState:
    head = passes.head
    try:
        return TrainingState(head, Adam(head.parameters()))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    if not passes.forget():
        device = next(head.parameters()).device
        raise UserError(f"device={device}: its memory is too small to train the head: expected more")
    return _begin(passes)


def _learning_rate_schedule(scheduler: str, steps: int) -> Callable[[int], float]:
    """What the learning rate is multiplied with after so many steps, as by transformers' `get_scheduler`."""
    schedules: dict[str, Callable[[int], float]] = {
        "constant": lambda _: 1.0,
        "linear": lambda step: max(0.0, (steps - step) / max(1, steps)),
        "cosine": lambda step: max(0.0, 0.5 * (1.0 + math.cos(math.pi * (step / max(1, steps))))),
    }
    return schedules[scheduler]


def _check_loss(name: str, loss: float, state: TrainingState, recipe: Recipe) -> None:
    if not math.isfinite(loss):
        raise DivergedError(
            f"{name} loss became {loss} in epoch {len(state.epochs) + 1} with learning_rate={recipe.learning_rate}: "
            f"expected a finite number; try a lower rate",
            state,
        )


def _class_weights(labels: list[int], kind: str) -> Tensor:
    counts = torch.bincount(torch.tensor(labels)).float()
    # The formula of scikit-learn's class_weight="balanced".
    return len(labels) / (len(counts) * counts) if kind == "balanced" else torch.ones_like(counts)
