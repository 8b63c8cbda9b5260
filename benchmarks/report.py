"""RESULTS.md and its plot, from what the benchmarks wrote.

    python -m benchmarks.report

reads recipe.json, encoder.json, and where they are there command.json, reading.json, command_1080p.json,
command_demo.json, serving.json, ranks.json, tiny.json, coverage.json and notes.md, from benchmarks/results. It prints
the sentence that README has of command.json.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any

from matplotlib.figure import Figure

Run = dict[str, Any]
FEATURE_MIB = {"fp32": 8, "tf32": 8, "bf16": 4}
"""Of one clip of the ViT-L: 2048 tokens of 1024 values."""
CLIPS = {"10 thousand": 10**4, "1 million": 10**6, "100 million": 10**8}
GPUS = (1, 8, 64)
COVERED = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "loss": "log loss",
    "calibration_error": "calibration error",
}
CARD = "card's loop"
COMMANDS = ("first on a machine", "another seed", "everything stored")
SWEEPS = ("sweep, nothing encoded", "sweep, everything stored")
"""What `benchmarks.command` measures, by the names in its file."""
COLOURS = {"fp32": "#7f7f7f", "tf32": "#d95f02", "bf16": "#1f5fa8"}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    here = Path(__file__).parent
    write(here / "results", here)
    command = here / "results" / "command.json"
    if command.exists():
        print(headline(json.loads(command.read_text())))


def write(measured: Path, folder: Path) -> None:
    """Writes RESULTS.md and speed.png to a folder."""
    recipe, encoder = (json.loads((measured / name).read_text()) for name in ("recipe.json", "encoder.json"))
    notes = measured / "notes.md"

    def of(name: str, tables: Callable[[Run], Iterator[str]]) -> list[str]:
        path = measured / f"{name}.json"
        return list(tables(json.loads(path.read_text()))) if path.exists() else []

    parts = [
        "# Results",
        *of("command", command_tables),
        *of("reading", reading_tables),
        *of("command_1080p", command_1080p_table),
        *of("command_demo", demo_command_tables),
        "## The engine alone: what happens between loading the model and the tested head",
        machine(recipe),
        *recipe_tables(recipe),
        "![Time of a run and of a sweep](speed.png)",
        "## The encoder and the head alone",
        *encoder_tables(encoder),
        *of("serving", serving_table),
        *of("ranks", ranks_table),
        "## How large may it get",
        *sizing(recipe["runs"]),
        *of("tiny", tiny_tables),
        *of("coverage", coverage_tables),
        *([notes.read_text().strip()] if notes.exists() else []),
    ]
    (folder / "RESULTS.md").write_text("\n\n".join(parts) + "\n")
    plot(recipe).savefig(folder / "speed.png", dpi=150)


def machine(recipe: Run) -> str:
    about = recipe["machine"]
    libraries = ", ".join(f"{name} {about[name]}" for name in ("python", "torch", "transformers", "av"))
    videos = ", ".join(f"{count} {split}" for split, count in recipe["videos"].items())
    return (
        f"{about['date']}, {about['device']}, {about['cpu_cores']} CPU cores; {libraries}. Model `{recipe['model']}`; "
        f"{videos} videos; {recipe['epochs']} epochs with fresh views. Written by `python -m benchmarks.report` from "
        f"what `benchmarks.recipe` and `benchmarks.encoder` measured."
    )


def table(names: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [names, ["---"] * len(names), *rows])


def command_tables(command: Run) -> Iterator[str]:
    asked, rows = command["asked"], _by_clips(command)
    yield "## What the user waits for: whole commands"
    yield table(
        ["clips", "card's loop as a program, s", *(f"{name}, s" for name in COMMANDS), "imports alone (I), s", "on"],
        [
            [
                str(clips),
                _seconds(found.get(CARD)),
                *(_beside(found.get(name), found.get(CARD)) for name in COMMANDS),
                *_imports_and_device([found[name] for name in (CARD, *COMMANDS) if name in found]),
            ]
            for clips, found in rows.items()
            if {CARD, *COMMANDS} & found.keys()
        ],
    )
    yield (
        "Seconds from the start of a process to its end, the median where there are several, and in brackets how many "
        f"times faster than the card's loop: imports, loading, {asked['epochs']} epochs, a validation after each, the "
        f"test, and saving. `vjepa-mlflow train` (model `{asked['model']}`, {asked['precision']}) has its checkpoints, "
        "report, figures and registered model in a local MLflow database in these seconds. The first time on a machine "
        "nothing is compiled or stored; with another seed the training clips are others, and encoded; with everything "
        "stored the seed is that of the first time. The card's loop (`benchmarks/card_program.py`, fp32) saves its "
        "model. I is what importing torch, torchvision, `mlflow.pyfunc` and transformers' two classes of V-JEPA 2 took "
        "in the same call."
    )
    cards = [found[CARD] for found in rows.values() if CARD in found]
    multiplied = [row for row in cards if row["looped_clips"] < row["clips"]]
    if multiplied:
        counts = " and ".join(str(row["clips"]) for row in multiplied)
        yield (
            f"For {counts} clips the card's loop ran over {multiplied[0]['looped_clips']}, and the seconds of its loop "
            f"were multiplied. Beyond those of `{asked['data']}`, clips are copies, each with its own content."
        )
    apart = [row for row in cards if any(_other_call(row, rows[row["clips"]].get(name)) for name in COMMANDS)]
    if apart:
        counts = " and ".join(f"{row['clips']} (I: {median(row['import_seconds']):.1f} s)" for row in apart)
        yield f"In another call than the commands beside it, maybe another machine, the card's loop ran for {counts}."
    swept = {clips: found for clips, found in rows.items() if set(SWEEPS) & found.keys()}
    if swept:
        yield "Sweeps with one worker, beside so many of the card's programs:"
        yield table(
            ["clips", "trials", "card's programs, s", *(f"{name}, s" for name in SWEEPS), "imports alone (I), s", "on"],
            [_sweep_row(clips, found) for clips, found in swept.items()],
        )
    yield from _logged_tables(rows)
    yield "Written from what `python -m benchmarks.command` measured."


def _by_clips(command: Run) -> dict[int, dict[str, Run]]:
    """What was measured, by number of clips and name."""
    rows: dict[int, dict[str, Run]] = {}
    for row in sorted(command["measured"], key=lambda row: row["clips"]):
        rows.setdefault(row["clips"], {})[row["name"]] = row
    return rows


def _other_call(row: Run, other: Run | None) -> bool:
    return other is not None and row["import_seconds"] != other["import_seconds"]


def _sweep_row(clips: int, found: dict[str, Run]) -> list[str]:
    swept = [found[name] for name in SWEEPS if name in found]
    trials = swept[0]["trials"]
    card = {"seconds": [median(found[CARD]["seconds"]) * trials]} if CARD in found else None
    cells = [_beside(found.get(name), card) for name in SWEEPS]
    return [str(clips), str(trials), _seconds(card), *cells, *_imports_and_device(swept)]


def _logged_tables(rows: dict[int, dict[str, Run]]) -> Iterator[str]:
    """What runs logged of their own time, and what was stored after them."""
    ours = [row for found in rows.values() for row in found.values() if row.get("metrics")]
    names = sorted({name for row in ours for metrics in row["metrics"] for name in metrics})
    if not ours:
        return
    yield "What these runs logged themselves, in the mean, and how much the feature store held after them:"
    yield table(
        ["clips", "command", *(f"`{name}`" for name in names), "store, GiB"],
        [
            [
                str(row["clips"]),
                row["name"],
                *(_mean([metrics[name] for metrics in row["metrics"] if name in metrics]) for name in names),
                f"{row['stored_gib']:.2f}",
            ]
            for row in ours
        ],
    )
    yield from _stored_in_part([found[COMMANDS[0]] for found in rows.values() if COMMANDS[0] in found])


def _stored_in_part(firsts: list[Run]) -> Iterator[str]:
    """Where the store held less of each clip after the first command than it did with the fewest clips."""
    whole = firsts[0]["stored_gib"] / firsts[0]["clips"]
    for row in firsts:
        expected = whole * row["clips"]
        if row["stored_gib"] < 0.9 * expected:
            yield (
                f"With {row['clips']} clips the store had room for {row['stored_gib']:.0f} GiB of about "
                f"{expected:.0f} the first time, half of what was free on the disk: the rest had to be encoded again "
                "in the commands that follow, in the one with everything stored, too."
            )


def _mean(values: list[float]) -> str:
    return f"{mean(values):.3f}" if values else ""


def _seconds(row: Run | None) -> str:
    return "" if row is None else f"{median(row['seconds']):.1f}"


def _beside(row: Run | None, card: Run | None) -> str:
    """A command's seconds, and how many times faster than the card's it is where that was measured."""
    if row is None or card is None:
        return _seconds(row)
    return f"{_seconds(row)} ({median(card['seconds']) / median(row['seconds']):.1f})"


def _imports_and_device(rows: list[Run]) -> list[str]:
    """How long imports took in the call that the last row is of, and the devices that the rows are of."""
    return [
        f"{median(rows[-1]['import_seconds']):.1f}",
        " / ".join(dict.fromkeys(row["machine"]["device"] for row in rows)),
    ]


def headline(command: Run) -> str:
    """What README says of the whole command, for the fewest clips for which all was measured."""
    found = next(found for found in _by_clips(command).values() if {CARD, *COMMANDS} <= found.keys())
    card, *ours = (median(found[name]["seconds"]) for name in (CARD, *COMMANDS))
    first, seed, stored = (f"{seconds:.0f} s ({card / seconds:.1f} times faster)" for seconds in ours)
    return (
        f"The whole command, from the prompt to the registered model, takes {first} the first time on a machine, "
        f"{seed} with another seed and {stored} with everything stored; the model card's loop as a program of its own "
        f"takes {card:.0f} s ({found[CARD]['clips']} clips, {command['asked']['epochs']} epochs, "
        f"{found[COMMANDS[-1]]['machine']['device']})."
    )


def reading_tables(reading: Run) -> Iterator[str]:
    about, runs = reading["machine"], reading["runs"]
    yield "## From files into features, by the size of the videos"
    yield table(
        ["videos", "clips/s", "card's loop, clips/s", "times", "GPU busy", "shared memory, GiB", "GPU memory, GiB"],
        [
            [
                run["videos"],
                f"{run['clips_per_second']:.0f}",
                *(
                    "" if name not in run else f"{run[name]:.1f}"
                    for name in ("card_clips_per_second", "times_the_card")
                ),
                "" if run["gpu_busy"] is None else f"{run['gpu_busy']:.0%}",
                f"{run['shared_memory_gib']:.2f}",
                "" if run["gpu_peak_memory_gib"] is None else f"{run['gpu_peak_memory_gib']:.2f}",
            ]
            for run in runs
        ],
    )
    yield (
        f"{about['date']}, {about['device']}, {about['cpu_cores']} CPU cores. Generated videos of 10 s at 30 frames a "
        f"second, five views of each, as five epochs take them (model `{reading['model']}`, {reading['precision']}), "
        "in the steady state; the card's loop (fp32) reads them with a loader's worker for each core. Memory is that "
        "of PyTorch alone, and what processes share at most. Written from what `python -m benchmarks.reading` measured."
    )


def command_1080p_table(command: Run) -> Iterator[str]:
    (clips, found), *_ = _by_clips(command).items()
    measured = [(name, found[name]) for name in (CARD, *COMMANDS) if name in found]
    device = measured[-1][1]["machine"]["device"]
    yield "Whole commands, as above, with videos of 1920x1080:"
    yield table(
        ["clips", *(f"{name}, s" for name, _ in measured), "imports alone (I), s", "on"],
        [
            [
                str(clips),
                *(_seconds(row) if name == CARD else _beside(row, found.get(CARD)) for name, row in measured),
                f"{median(measured[-1][1]['import_seconds']):.1f}",
                device,
            ]
        ],
    )


def demo_command_tables(command: Run) -> Iterator[str]:
    rows = command["measured"]
    about, imports = rows[0]["machine"], median(rows[0]["import_seconds"])
    yield "## README's first command"
    shown = [("imports alone (I)", imports), *((row["name"], median(row["seconds"])) for row in rows)]
    yield table(["", "seconds", "times I"], [[name, f"{took:.1f}", f"{took / imports:.2f}"] for name, took in shown])
    yield (
        f"{about['date']}, {about['device']}, {about['cpu_cores']} CPU cores. The first command is `mlflow run . "
        "--env-manager local -P epochs=5` with nothing drawn, compiled or stored; the other is `vjepa-mlflow train` "
        "after it, which trains the same head. Written from what `python -m benchmarks.command --demo` measured."
    )


def recipe_tables(recipe: Run) -> Iterator[str]:
    card, *ours = recipe["runs"]
    rows = []
    for run in [card, *(run for run in ours if run["metrics"].get("train_loss"))]:
        compiled = run["extra"].get("first_epoch_with_compiling_s")
        rows.append(
            [
                run["name"],
                run["precision"],
                f"{run['seconds']:.2f}",
                f"{run['train_clips'] / run['seconds']:.1f}",
                f"{card['seconds'] / run['seconds']:.1f}",
                "" if run["peak_memory_gib"] is None else f"{run['peak_memory_gib']:.1f}",
                f"{run['metrics']['train_loss'][-1]:.4f}",
                f"{max(run['metrics']['val_accuracy']):.3f}",
                f"{run['metrics']['test_accuracy']:.3f}",
                "" if compiled is None else f"{compiled:.1f}",
            ]
        )
    yield table(
        ["", "precision", "seconds", "clips/s", "times faster", "GPU memory, GiB", "last training loss",
         "best validation accuracy", "test accuracy", "first epoch in this process, s"],
        rows,
    )  # fmt: skip
    yield (
        f"A run is {recipe['epochs']} epochs, a validation after each and the test, from files to the tested head; "
        "loading the model is left out on both sides. The last column is an epoch before the clock started: it holds "
        "whatever is compiled once in a process (and kept on disk for the next), and is not part of the seconds."
    )
    rows = [
        [
            run["precision"],
            f"{run['seconds']:.1f}",
            f"{card['seconds'] * recipe['trials'] / run['seconds']:.1f}",
            f"{run['extra']['first_s']:.2f}",
            f"{sum(run['extra']['others_s']) / len(run['extra']['others_s']):.2f}",
            str(run["extra"]["measured"]),
        ]
        for run in ours
        if "trials" in run["name"]
    ]
    yield f"{recipe['trials']} trials beside {recipe['trials']} of the card's loops (one timed, multiplied):"
    yield table(["precision", "seconds", "times faster", "first trial", "each other trial", "trials run"], rows)
    yield "Encoding from files, nothing else to do, in the steady state:"
    rows = [
        [
            run["precision"],
            f"{run['extra']['ms_per_clip']:.2f}",
            f"{run['train_clips'] / run['seconds']:.1f}",
            "" if run["extra"]["gpu_busy"] is None else f"{run['extra']['gpu_busy']:.0%}",
        ]
        for run in ours
        if run["name"] == "encoding from files"
    ]
    yield table(["precision", "ms a clip", "clips/s", "GPU busy (NVML)"], rows)


def encoder_tables(encoder: Run) -> Iterator[str]:
    ceiling = encoder["ceiling_ms"]
    rows = []
    for row in encoder["encoder"]:
        share = f"{ceiling['both'] / row['ms']:.0%}" if ceiling and row["precision"] == "bf16" else ""
        name = row["encoder"] + ("" if row["encoder"] == row["form"] else f" ({row['form']})")
        rows.append([name, row["precision"], str(row["batch"]), f"{row['ms']:.2f}", f"{row['error']:.1e}", share])
    yield table(["encoder", "precision", "batch", "ms a clip", "error against fp32", "of the ceiling"], rows)
    if ceiling:
        yield (
            f"The ceiling: the matrix products of one clip take {ceiling['products']:.2f} ms in bf16 at this "
            f"GPU's measured speed, its attention {ceiling['attention']:.2f} ms with the fastest kernel, both "
            f"{ceiling['both']:.2f} ms. The error is the norm of the difference as a share of the norm."
        )
    rows = [[row["precision"], str(row["window"]), f"{row['ms']:.2f}"] for row in encoder["head"]]
    yield "The head: forward, backward, Adam and feeding, a clip, windows executed at once:"
    yield table(["precision", "window", "ms a clip"], rows)


def serving_table(serving: Run) -> Iterator[str]:
    about = serving["machine"]
    counts = sorted({int(count) for one in serving["loads"] for count in one["memory_mib"]})
    yield "## Serving, with a client for each connection"
    rows = [
        [
            str(one["workers"]),
            str(one["clients"]),
            str(one["requests"]),
            str(one["failed"]),
            f"{one['requests_per_second']:.1f}",
            *(f"{one[f'p{share}_ms']:.0f}" for share in (50, 95, 99)),
            *(f"{one['memory_mib'][str(count)]:.0f}" if str(count) in one["memory_mib"] else "" for count in counts),
        ]
        for one in serving["loads"]
    ]
    names = ["workers", "clients", "requests", "failed", "requests/s", "p50, ms", "p95, ms", "p99, ms"]
    yield table([*names, *(f"MiB after {count}" for count in counts)], rows)
    yield (
        f"`mlflow models serve` with so many workers (`-w`), each of which holds the model; {about['device']}, "
        f"{about['cpu_cores']} CPU cores, model `{serving['model']}`, {serving['precision']}; a request is one video "
        f"of {serving['video_bytes'] / 1000:.0f} kB in JSON, the clients are on the same machine. Memory is the "
        "server's own, its decoders' included. Written from what `benchmarks.serving` measured."
    )


def ranks_table(ranks: Run) -> Iterator[str]:
    yield "## Several GPUs of one machine"
    rows = [[str(run["processes"]), str(run["clips"]), f"{run['clips_per_second']:.1f}"] for run in ranks["runs"]]
    yield table(["processes", "clips", "clips/s"], rows)
    same = "the same bytes" if ranks["same_bytes"] else "other bytes"
    yield f"{ranks['times_faster']:.2f} times as fast in {ranks['precision']}, and {same} in the store."


def tiny_tables(tiny: Run) -> Iterator[str]:
    yield "## What the tiny checkpoint's pretraining brings"
    rows = [
        [
            run["weights"],
            str(run["seed"]),
            ", ".join(f"{accuracy:.3f}" for accuracy in run["val_accuracy"]),
            f"{run['test_accuracy']:.3f}",
            f"{run['shuffled_test_accuracy']:.3f}",
        ]
        for run in tiny["runs"]
    ]
    names = ["weights", "seed", "validation accuracy after each epoch", "test accuracy", "with shuffled frames"]
    yield table(names, rows)
    yield (
        "The recipe with its own values on the demo (`vjepa-mlflow train`): eight classes, so chance is 0.125. The "
        "test videos have patterns that neither the recipe nor the pretraining saw; shuffled, they have the same "
        "frames in another order."
    )
    rows = [
        [probe["data"], str(probe["videos"]), probe["weights"], f"{probe['accuracy']:.3f}"] for probe in tiny["probes"]
    ]
    yield table(["data", "videos", "weights", "linear probe"], rows)
    yield (
        "Scikit-learn's logistic regression on features averaged over all tokens, its accuracy in five-fold "
        "cross-validation, repeated four times; random weights are drawn three times. `wagon` are real videos, 30 to "
        "36 of each of four classes. Written from what `benchmarks.tiny` measured on a CPU."
    )


def coverage_tables(coverage: Run) -> Iterator[str]:
    cells, before = coverage["cells"], coverage["before"]
    grouped = [cell for cell in cells if cell["sizes"] != "alone"]
    yield "## What the 95% intervals of an evaluation hold"
    yield (
        f"The share of {coverage['sets']} simulated sets whose interval holds the truth, where it is least, over "
        f"correlations of hits within groups of {_list(grouped, 'correlation')}, accuracies of "
        f"{_list(grouped, 'accuracy')}, and groups that differ in degree or in kind; in brackets the intervals' mean "
        "width. Groups have 16 videos in the mean; of those of 1:10 half are large and half are small. Five classes."
    )
    rows = []
    for groups, sizes in dict.fromkeys((cell["groups"], cell["sizes"]) for cell in grouped):
        chosen = [cell for cell in grouped if (cell["groups"], cell["sizes"]) == (groups, sizes)]
        rows.append([str(groups), "even" if sizes == "even" else "1:10", *map(_cover(chosen), COVERED)])
    yield table(["groups", "sizes", *COVERED.values()], rows)
    yield "Accuracy's by correlation, all accuracies and both sizes together:"
    rows = []
    for groups in dict.fromkeys(cell["groups"] for cell in grouped):
        row = [str(groups)]
        for correlation in dict.fromkeys(cell["correlation"] for cell in grouped):
            chosen = [cell for cell in grouped if (cell["groups"], cell["correlation"]) == (groups, correlation)]
            row.append(_cover(chosen)("accuracy"))
        rows.append(row)
    correlations = dict.fromkeys(cell["correlation"] for cell in grouped)
    yield table(["groups", *(f"correlation {correlation:g}" for correlation in correlations)], rows)
    yield "Videos without groups:"
    alone = [cell for cell in cells if cell["sizes"] == "alone"]
    rows = [
        [str(videos), *map(_cover([cell for cell in alone if cell["groups"] == videos]), COVERED)]
        for videos in dict.fromkeys(cell["groups"] for cell in alone)
    ]
    yield table(["videos", *COVERED.values()], rows)
    yield "The bootstrap of groups that came before, in even groups that differ in degree:"
    rows = []
    for groups in dict.fromkeys(cell["groups"] for cell in before):
        chosen = [cell for cell in before if cell["groups"] == groups]
        independent = [cell for cell in chosen if not cell["correlation"]]
        names = ("accuracy", "loss")
        rows.append([str(groups), *map(_cover(independent), names), *map(_cover(chosen), names)])
    yield table(
        ["groups", "accuracy, independent hits", "log loss, independent hits", "accuracy, all", "log loss, all"], rows
    )
    yield (
        "Four groups are the fewest with an interval now. Written from what `python -m benchmarks.coverage` measured "
        "on a CPU."
    )


def _cover(cells: list[Run]) -> Callable[[str], str]:
    def least(name: str) -> str:
        figures = [cell["metrics"][name] for cell in cells]
        width = sum(figure["width"] for figure in figures) / len(figures)
        return f"{min(figure['coverage'] for figure in figures):.1%} ({width:.2f})"

    return least


def _list(cells: list[Run], name: str) -> str:
    *others, last = (f"{value:g}" for value in dict.fromkeys(cell[name] for cell in cells))
    return f"{', '.join(others)} and {last}"


def sizing(runs: list[Run]) -> Iterator[str]:
    paces = {
        run["precision"]: run["seconds"] / run["train_clips"] for run in runs if run["name"] == "encoding from files"
    }
    yield (
        "Computed from the pace of encoding from files above, for one view of each clip; wall time supposes as many "
        "CPU cores for each GPU as here, and a shared folder that takes what they write. ViT-L features."
    )
    rows = []
    for precision, pace in paces.items():
        for name, clips in CLIPS.items():
            hours = clips * pace / 3600
            walls = [f"{duration(hours / gpus)}" for gpus in GPUS]
            store = clips * FEATURE_MIB[precision] / 2**20
            write_rate = FEATURE_MIB[precision] / pace / 1024
            rows.append([name, precision, f"{hours:,.2f}", f"{store:,.2f}", *walls, f"{write_rate:.2f}"])
    walls = [f"wall time, {gpus} GPU{'s' if gpus > 1 else ''}" for gpus in GPUS]
    yield table(["clips", "precision", "GPU-hours", "store, TiB", *walls, "GiB/s a GPU"], rows)


def duration(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 1:
        return f"{hours * 60:.1f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def plot(recipe: Run) -> Figure:
    """How long a run and a sweep take, with the ratio at each bar."""
    card, *ours = recipe["runs"]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    bars = [(card["name"], "fp32", card["seconds"])]
    bars += [(run["name"], run["precision"], run["seconds"]) for run in ours if run["name"].startswith("ours")]
    sweeps = [(f"{recipe['trials']} card's loops", "fp32", card["seconds"] * recipe["trials"])]
    sweeps += [(run["name"], run["precision"], run["seconds"]) for run in ours if "trials" in run["name"]]
    for axes, title, shown in zip(
        figure.subplots(1, 2),
        (f"One run of {recipe['epochs']} epochs", f"A sweep of {recipe['trials']} trials"),
        (bars, sweeps),
        strict=True,
    ):
        names = [f"{name}, {precision}" for name, precision, _ in shown]
        colours = ["#222222", *(COLOURS[precision] for _, precision, _ in shown[1:])]
        drawn = axes.barh(names, [seconds for *_, seconds in shown], color=colours)
        ratios = [
            f" {seconds:.1f} s" + ("" if not index else f"  ({shown[0][2] / seconds:.1f}x)")
            for index, (*_, seconds) in enumerate(shown)
        ]
        axes.bar_label(drawn, ratios, fontsize=8)
        axes.set_xlim(right=shown[0][2] * 1.35)
        axes.invert_yaxis()
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("seconds", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
