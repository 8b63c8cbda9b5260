"""The command line: parse, call one function, print its result."""

import atexit
import dataclasses
import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from vjepa_mlflow.about import VERSION
from vjepa_mlflow.errors import UserError, one_line, printable, printable_lines
from vjepa_mlflow.files.paths import home
from vjepa_mlflow.files.temporary import lack_of_room, lend_to_libraries
from vjepa_mlflow.recipe import CHECKED, EVALUATED, EVALUATED_SPLITS, EXTRACTED, Recipe
from vjepa_mlflow.runtime.cpus import let_idle_threads_sleep
from vjepa_mlflow.runtime.interrupts import orderly_interrupts
from vjepa_mlflow.secrets import move_password_to_environment, without_secrets
from vjepa_mlflow.terminal.encodings import speak_utf8
from vjepa_mlflow.terminal.messages import messages_shown
from vjepa_mlflow.terminal.outputs import outlast_readers, print_result

LOGGED = {"train", "sweep", "evaluate"}
"""The commands that log to an MLflow run: one that `mlflow run` prepared is theirs to end."""

USER_ERROR, OTHER_ERROR, INTERRUPTED = 2, 1, 130
"""Exit statuses."""


def main(arguments: list[str] | None = None) -> None:
    """Runs a command; what a user can put right ends in one line on stderr and a status that is not zero."""
    if arguments is None:
        speak_utf8()
    with _ending_at_once() if arguments is None else nullcontext():
        _main(arguments)


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """Has the process end once all is done that is done at its end: Python would free each object, for seconds."""
    statuses: list[int] = []

    def end() -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # nobody reads it any more
                stream.flush()
        if statuses:
            os._exit(statuses[0])

    atexit.register(end)  # before anything else is, so that it is called after all
    try:
        yield
        statuses.append(0)
    except SystemExit as error:
        statuses.append(error.code if isinstance(error.code, int) else int(error.code is not None))
        raise
    except Exception:
        statuses.append(OTHER_ERROR)
        raise


def _main(arguments: list[str] | None) -> None:
    outlast_readers()
    sys.excepthook = _print_traceback
    move_password_to_environment()
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # MLflow asks for the commit; a machine may have no git
    let_idle_threads_sleep()
    lend_to_libraries()
    gc.set_threshold(100_000)  # imports alone make 700,000 objects, all of which stay: garbage is looked for less often
    with messages_shown(), orderly_interrupts():
        try:
            _run(arguments)
        except _CommandError as error:
            reason = " ".join(str(error).split())
            print(f"Error: {printable(reason)}", file=sys.stderr, flush=True)
            command = next(iter(sys.argv[1:] if arguments is None else arguments), "")
            launched = os.environ.get("MLFLOW_RUN_ID")
            if launched and command in LOGGED:
                _end_launched(launched, reason, interrupted=error.status == INTERRUPTED)
            sys.exit(error.status)


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Of what is our fault: whatever libraries say in it, without passwords."""
    sys.stderr.write(without_secrets("".join(traceback.format_exception(kind, error, trace))))


class _CommandError(Exception):
    """A command ends with a line on stderr, its message, and an exit status."""

    def __init__(self, reason: str, status: int):
        super().__init__(reason)
        self.status = status


def _run(arguments: list[str] | None) -> None:
    try:
        commands.main(arguments, prog_name="vjepa-mlflow", standalone_mode=False)
    except (UserError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        raise _CommandError(message, USER_ERROR) from error
    except (KeyboardInterrupt, click.Abort) as interrupt:
        message = str(interrupt.__cause__ or interrupt)  # click makes an Abort of it
        raise _CommandError(message or "interrupted", INTERRUPTED) from interrupt
    except Exception as error:
        from mlflow.exceptions import MlflowException

        from vjepa_mlflow.model import is_out_of_memory

        if full := lack_of_room(error):
            raise _CommandError(full, USER_ERROR) from error
        if isinstance(error, MlflowException):
            raise _CommandError(f"MLflow: {one_line(error)}", OTHER_ERROR) from error
        if is_out_of_memory(error):
            message = f"memory ran out ({one_line(error)}): expected more of it, or smaller videos"
            raise _CommandError(message, OTHER_ERROR) from error
        raise


def _end_launched(run_id: str, reason: str, *, interrupted: bool) -> None:
    """Ends the run that `mlflow run` prepared, where no job came so far, and sees to it that it stays as it ended."""
    from vjepa_mlflow.tracking import end_launched_run, stay_killed

    end_launched_run(reason, "KILLED" if interrupted else "FAILED")
    if interrupted:
        stay_killed(run_id)


def recipe_options(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command an option for each of these fields of the recipe, or for all of them."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(dataclasses.fields(Recipe)):
            if not names or option.name in names:
                command = _recipe_option(option)(command)
        return command

    return decorate


def _recipe_option(option: "dataclasses.Field[Any]") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    choices = option.metadata["choices"]
    return click.option(
        f"--{option.name.replace('_', '-')}",
        option.name,
        type=click.Choice(choices) if choices else option.type,
        default=option.default,
        show_default=option.default != "",
        help=option.metadata["help"],
    )


def _print_model(run_id: str, model_uri: str) -> None:
    print(f"Run    {run_id}   (mlflow ui)")
    print(f"Model  {model_uri}")
    print(f"Serve  mlflow models serve --env-manager local -m {model_uri}")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION)
def commands() -> None:
    """Fine-tune V-JEPA 2 on your own video classes, tracked and served by MLflow."""
    home()  # missing, it is told in a line, and not by the first library that asks for it


@commands.command()
@recipe_options()
@click.option("--resume", default="", help="A run that was stopped and goes on, or 'auto': the last such one, if any.")
@click.option(
    "--save-steps", default=0, show_default=True, help="Steps between checkpoints, besides those that are due."
)
def train(resume: str, save_steps: int, **options: Any) -> None:
    """Train the head of a frozen V-JEPA 2 and log the run, the model and its test accuracy to MLflow."""
    recipe = Recipe(**options)
    from vjepa_mlflow.commands.train import train

    result = train(recipe, resume=resume, save_steps=save_steps)
    print(f"\nBest epoch {result.best_epoch}, test accuracy {result.metrics['test_accuracy']:.3f}")
    _print_model(result.run_id, result.model_uri)


@commands.command()
@click.argument("data")
@click.option(
    "--reread", is_flag=True, help="Read every video, also where its size and times are those it was read with before."
)
@recipe_options(*(name for name in CHECKED if name != "data"))
def check(reread: bool, **options: Any) -> None:
    """Show what DATA is understood as, and what a training on it would take, without opening a model.

    Every video is opened, as before a training. With one that cannot be used the command fails in the end, unless bad
    videos are to be skipped.
    """
    recipe = Recipe(**options)
    from vjepa_mlflow.commands.check import check

    result = check(recipe, reread=reread)
    print_result(printable_lines(result.text()))
    result.refuse_faults()


@commands.command()
@recipe_options(*EXTRACTED)
def extract(**options: Any) -> None:
    """Encode every clip that a training run with these options reads, and keep the features for it.

    Goes on where it stopped. Under torchrun, each process encodes its share.
    """
    recipe = Recipe(**options)
    from vjepa_mlflow.commands.extract import extract

    result = extract(recipe)
    left = result.clips - result.present - result.encoded
    pace = "" if result.clips_per_second is None else f" ({result.clips_per_second:.1f} clips/s)"
    print(f"{result.clips} clips: {result.present} were there, {result.encoded} encoded{pace}, {left} without room")


@commands.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--trials", default="", help="How many are to end; empty: as many as the file says.")
@click.option(
    "--workers", default=1, show_default=True, help="Processes, each on a GPU of its own if there are several."
)
@click.option("--study", default="", help="Name of the study; empty: made of the file's and the data's.")
@click.option(
    "--storage", default="", help="Optuna's database URL; empty: SQLite beside MLflow's database. Others may share it."
)
@recipe_options()
def sweep(file: Path, trials: str, workers: int, study: str, storage: str, **options: Any) -> None:
    """Search the recipe's values as FILE says, with features encoded once, and log the best trial's model.

    The first trial has the values of the options below. The same command goes on with a study that was interrupted,
    and may run on several machines that share the storage.
    """
    recipe = Recipe(**options)
    if trials and not trials.removeprefix("-").isdecimal():
        raise UserError(f"trials={trials}: expected a whole number of at least 1")
    from vjepa_mlflow.commands.sweep import run_sweep

    result = run_sweep(
        file, recipe, trials=int(trials) if trials else None, workers=workers, study=study, storage=storage
    )
    print(f"\n{result.summary}")
    print(f"\nBest trial {result.best_trial}, test accuracy {result.metrics['test_accuracy']:.3f}")
    _print_model(result.run_id, result.model_uri)


@commands.command()
@click.argument("model_uri")
@click.option(
    "--split",
    type=click.Choice(EVALUATED_SPLITS),
    default="test",
    show_default=True,
    help="Which of the data's videos; of a split that it does not give, what the model knows in it.",
)
@click.option("--num-clips", type=click.IntRange(min=1), default=1, show_default=True, help="Clips to average.")
@click.option(
    "--unseen-by",
    default="",
    metavar="MODEL_URI",
    help="Leave out videos that this or the other model was trained on: to compare the two.",
)
@recipe_options(*EVALUATED)
def evaluate(model_uri: str, split: str, num_clips: int, unseen_by: str, **options: Any) -> None:
    """Evaluate a logged or registered model on labelled videos: figures with intervals, weak spots, a report."""
    recipe = Recipe(**options)
    from vjepa_mlflow.commands.evaluate import evaluate

    result = evaluate(model_uri, recipe, split=split, num_clips=num_clips, unseen_by=unseen_by)
    print(f"\nRun    {result.run_id}   (mlflow ui; report.html among its artifacts)")


@commands.command()
@click.argument("folder", type=click.Path(path_type=Path))
def upload(folder: Path) -> None:
    """Deliver what a run left in FOLDER when its tracking server, or the registry, did not take everything."""
    from vjepa_mlflow.commands.upload import upload

    result = upload(folder)
    if result.model_uri:
        _print_model(result.run_id, result.model_uri)
    else:
        print(f"Run    {result.run_id}   (mlflow ui)")


@commands.command()
@click.argument("model_uri")
@click.option("--alias", required=True, help="Such as champion.")
@click.option(
    "--if-better",
    default="",
    metavar="METRIC",
    help="Such as test_accuracy: only if it is better than the holder's, on the same videos.",
)
def promote(model_uri: str, alias: str, if_better: str) -> None:
    """Give a registered version an alias, which another one may hold."""
    from vjepa_mlflow.commands.promote import promote

    result = promote(model_uri, alias, if_better=if_better)
    if result.figures:
        before, after = result.figures
        print(f"{if_better} on {result.evaluated_on}")
        print(f"version {result.holder:<4} {before:.4f}  (models:/{result.name}@{alias})")
        print(f"version {result.version:<4} {after:.4f}")
    became = f"is now version {result.version}" if result.moved else f"stays version {result.holder}"
    had = f", and was version {result.holder}" if result.moved and result.holder else ""
    print(f"models:/{result.name}@{alias} {became}{had}")


@commands.command()
@click.option(
    "--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Delete what was not used for so long."
)
@click.option("--max-size", type=click.FloatRange(min=0), metavar="GIB", help="Delete the longest unused beyond this.")
def features(older_than: float | None, max_size: float | None) -> None:
    """Show what the feature store holds, and prune it."""
    from vjepa_mlflow.commands.features import describe, prune

    if older_than is not None or max_size is not None:
        pruned = prune(older_than_days=older_than, max_size_gib=max_size)
        print(f"Deleted {pruned.entries} features, {pruned.size / 2**30:.2f} GiB")
    print_result(describe())


@commands.command()
@click.argument("model_uri")
@click.argument("paths", nargs=-1, required=True, metavar="FILES_OR_FOLDERS...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="A .csv or .parquet to write; where it was begun before, it is gone on with.",
)
@click.option("--num-clips", type=click.IntRange(min=1), default=1, show_default=True, help="Clips to average.")
def predict(model_uri: str, paths: tuple[Path, ...], output: Path | None, num_clips: int) -> None:
    """Classify videos with a logged or registered model.

    Without an output file, predictions are printed, and a video that cannot be read fails the command in the end.
    """
    from vjepa_mlflow.commands.predict import predict, predict_to_file

    if output:
        counts = predict_to_file(model_uri, paths, output, num_clips=num_clips)
        before = f", {counts.present} of them from before" if counts.present else ""
        errors = f"; {counts.errors} videos could not be read" if counts.errors else ""
        print(f"{counts.present + counts.added} predictions in {output}{before}{errors}")
        return
    rows = failed = 0
    for row in predict(model_uri, paths, num_clips=num_clips):
        rows += 1
        failed += bool(row["error"])
        warning = f"  ({row['warning']})" if row["warning"] else ""
        answer = row["error"] or f"{row['score']:.3f}  {row['label']}{warning}"
        print_result(printable(f"{row['path']}  {answer}"))
    if failed:
        raise UserError(f"{failed} of {rows} files could not be read")
