"""What the feature store holds, and pruning it."""

import time
from dataclasses import dataclass

from vjepa_mlflow.features import contents
from vjepa_mlflow.files.temporary import DAY
from vjepa_mlflow.terminal.columns import align

COLUMNS = ("space", "features", "GiB", "last used", "precision", "frames", "stride", "frames/s", "backbone")


@dataclass(frozen=True)
class Pruned:
    """What pruning deleted: how many clips' features, and their bytes."""

    entries: int
    size: int


def describe() -> str:
    """The store as a table, a line for each space: features that can be used together."""
    spaces = contents.list_contents()
    entries = sum(len(space.entries) for space in spaces)
    size = sum(space.size for space in spaces)
    free = contents.free_space(contents.store_folder())
    head = f"{contents.store_folder()}: {entries} features, {size / 2**30:.2f} GiB; {free / 2**30:.1f} GiB free"
    rows = [COLUMNS, *(_row(space) for space in spaces)] if spaces else []
    faults = [f"{space.folder}: {space.fault}: expected the right to" for space in spaces if space.fault]
    return "\n".join([head, *align(rows), *faults])


def _row(space: contents.Contents) -> tuple[str, ...]:
    used = time.strftime("%Y-%m-%d", time.localtime(space.entries[-1].used)) if space.entries else "-"
    description = space.description
    return (
        space.folder.name,
        "?" if space.fault else str(len(space.entries)),
        "?" if space.fault else f"{space.size / 2**30:.2f}",
        used,
        f"{description.get('precision', '?')} ({description.get('form', '?')})",
        str(description.get("num_frames", "?")),
        str(description.get("stride", "?") or "-"),
        str(description.get("frames_per_second", 0) or "-"),
        str(description.get("backbone", "?"))[:12],
    )


def prune(*, older_than_days: float | None, max_size_gib: float | None) -> Pruned:
    """Deletes features by age or by size, see `contents.choose_old`."""
    chosen = contents.choose_old(
        contents.list_contents(),
        older_than=None if older_than_days is None else older_than_days * DAY,
        max_size=None if max_size_gib is None else max_size_gib * 2**30,
    )
    contents.remove(chosen)
    return Pruned(len(chosen), sum(entry.size for entry in chosen))
