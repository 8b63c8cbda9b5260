"""Whether there is a split that has every class everywhere: an exact search, which decides it where chance does not."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations, islice, product
from typing import NamedTuple

from vjepa_mlflow.data.samples import few
from vjepa_mlflow.data.split_units import Draft, Pool

NODES = 4_000
"""How many choices the exact search makes before it gives up."""

FEW = 40
"""Classes with more units than this are left out of the exact search, since moving units about will do for them."""


class NoSplitError(ValueError):
    """There is no split, or none was found: its message is the reason, in one sentence."""


class _Item(NamedTuple):
    """What the exact search places: units that have the same classes."""

    kinds: list[int]
    """The unit's kind, for each unit."""
    classes: list[int]
    ways: list[tuple[int, ...]]
    """To which splits the units may go, each to another: for the classes that is as good as any other way."""


class _GaveUpError(Exception):
    """The exact search made too many choices."""


def cover(pool: Pool) -> Draft:
    """Places the units that decide whether there is a split with every class.

    Raises:
        NoSplitError: there is none.
    """
    classes = [label_id for label_id, number in enumerate(pool.units_of) if number <= FEW]
    try:
        draft = _search(pool, _items(pool, classes))
    except _GaveUpError:
        return Draft(pool)
    if draft is None:
        raise NoSplitError(_reason(pool, classes))
    return draft


def _items(pool: Pool, classes: Iterable[int]) -> list[_Item]:
    wanted, splits = set(classes), range(len(pool.splits))
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for kind, (counts, units) in enumerate(pool.kinds):
        alike[tuple(label_id for label_id, _ in counts if label_id in wanted)] += [kind] * min(len(units), len(splits))
    return [
        _Item(kinds[: len(splits)], list(ids), list(combinations(splits, min(len(kinds), len(splits)))))
        for ids, kinds in alike.items()
        if ids
    ]


def _search(pool: Pool, items: list[_Item], *, below: float | None = None, nodes: int = NODES) -> Draft | None:
    """Places the items so that none of their classes lacks, and no split's excess is as much as `below`.

    Returns:
        The first such draft; None if there is none.

    Raises:
        _GaveUpError: that takes more choices than there may be.
    """
    room = _room(pool, below)
    members: dict[int, list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        for label_id in item.classes:
            members[label_id].append(number)
    blame = [1] * len(pool.units_of)
    branches = [([item.ways for item in items], list(range(len(items))))]
    for _ in range(nodes):
        if not branches:
            return None
        ways, changed = branches.pop()
        dead = _follow(pool, items, members, ways, changed)
        if dead is not None:
            blame[dead] += 1
        if dead is not None or not _fits(pool, items, ways, room):
            continue
        open_items = [number for number in range(len(items)) if len(ways[number]) > 1]
        if not open_items:
            return _placed(pool, items, ways)
        # The item with the fewest ways and the most to decide is the one at which a dead end shows first.
        number = min(open_items, key=lambda number: len(ways[number]) / sum(blame[c] for c in items[number].classes))
        branches += [([*ways[:number], [way], *ways[number + 1 :]], [number]) for way in reversed(ways[number])]
    raise _GaveUpError


def _follow(
    pool: Pool,
    items: list[_Item],
    members: dict[int, list[int]],
    ways: list[list[tuple[int, ...]]],
    changed: list[int],
) -> int | None:
    """Where only one item can bring a class to a split, it has to: strikes out its other ways, and so on.

    Returns:
        A class that no item can bring to some split any more, if there is one.
    """
    while changed:
        for label_id, split in product(items[changed.pop()].classes, range(len(pool.splits))):
            if not pool.needs[split][label_id]:
                continue
            able = list(islice((n for n in members[label_id] if any(split in way for way in ways[n])), 2))
            if not able:
                return label_id
            if len(able) == 1 and not all(split in way for way in ways[able[0]]):
                ways[able[0]] = [way for way in ways[able[0]] if split in way]
                changed.append(able[0])
    return None


def _room(pool: Pool, below: float | None) -> list[tuple[int, int]]:
    """How many samples each split may have, from and to, for less excess than this; nothing if any number will do."""
    if below is None:
        return []
    sizes = [size for size, excess in enumerate(pool.excess) if excess < below] or [-1]
    everything, missing = len(pool.excess) - 1, len(pool.splits) - 1
    train = (everything - missing * sizes[-1], everything - missing * sizes[0])
    return [train, *[(sizes[0], sizes[-1])] * missing]


def _fits(pool: Pool, items: list[_Item], ways: list[list[tuple[int, ...]]], room: list[tuple[int, int]]) -> bool:
    if not room:
        return True
    least, most = [0] * len(room), [0] * len(room)
    for item, open_ways in zip(items, ways, strict=True):
        size = pool.kinds[item.kinds[0]].counts[-1][1]
        for (split,) in open_ways:
            most[split] += size
            least[split] += size * (len(open_ways) == 1)
    return all(least[split] <= high and most[split] >= low for split, (low, high) in enumerate(room))


def _placed(pool: Pool, items: list[_Item], ways: list[list[tuple[int, ...]]]) -> Draft:
    draft = Draft(pool)
    for item, (way,) in zip(items, ways, strict=True):
        for kind, split in zip(item.kinds, way, strict=True):
            draft.put(kind, split)
    return draft


def nearer(pool: Pool, *, below: float) -> Draft | None:
    """A split that has every class everywhere, and no share that is off by as much as `below` beyond what is tolerated.

    Returns:
        The first one that is found; None if there is none, or the search gives up.
    """
    ways: list[tuple[int, ...]] = [(split,) for split in range(len(pool.splits))]
    items = [
        _Item([kind], [label_id for label_id, _ in counts], ways)
        for kind, (counts, units) in enumerate(pool.kinds)
        for _ in units
    ]
    try:
        return _search(pool, items, below=below)
    except _GaveUpError:
        return None


def _reason(pool: Pool, classes: list[int]) -> str:
    """Which classes cannot all be where they are needed, though without any one of them the others could."""
    blamed = list(classes)
    for label_id in sorted(classes, reverse=True):
        rest = [other for other in blamed if other != label_id]
        try:
            blamed = blamed if _search(pool, _items(pool, rest), nodes=2 * NODES // len(classes)) else rest
        except _GaveUpError:
            continue
    videos, everywhere = "different videos or groups", listed(pool.splits)
    names = {label_id: f"'{pool.classes[label_id]}'" for label_id in blamed if label_id < len(pool.classes)}
    if not names:
        return f"{pool.units_of[-1]} {videos} are too few for {everywhere}"
    if len(names) < len(blamed):
        needed = f"since train needs them for {few([*names.values()])}"
        return f"too few of the {pool.units_of[-1]} {videos} are left for {listed(pool.splits[1:])}, {needed}"
    hard = next(label_id for label_id in blamed if pool.needs[1][label_id])
    name, others = names.pop(hard), few([*names.values()])
    return (
        f"class {name} cannot be in each of {everywhere}: "
        f"its {pool.units_of[hard]} {videos} cannot be there together with those of {others}"
    )


def listed(words: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)
