"""Which samples train, validate and test: searched for and drawn by hashes, so that no library's generator decides.

Units with the same number of samples of the same classes are of one kind: how many of a kind go to which split is all
that is searched for, and the seed says which. All samples together count as one more class, which every split needs.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, permutations, product
from typing import NamedTuple

from vjepa_mlflow.data.samples import few

SHARE = 0.15
"""What a missing split gets of all samples, and of each class."""

TOLERANCE = 0.03
"""How far from its share of all samples a split may be for the sake of the classes."""

ROUNDS = 12
"""How often all units are gone through for something better, if there is something each time."""

PAIRS = 10_000
"""How many exchanges of two units are tried a round: all of them with up to some 140 kinds of units."""

CHAIN = 40
"""How many units are moved at once at most, each because of the one before."""

NODES = 4_000
"""How many choices the exact search makes before it gives up."""

FEW = 40
"""Classes with more units than this are left out of the exact search, since moving units about will do for them."""

SMALL = 40
"""With no more units than this, the exact search also looks for shares that are nearer."""


class NoSplitError(ValueError):
    """There is no split, or none was found: its message is the reason, in one sentence."""


class Drawn(NamedTuple):
    """Samples in splits.

    Attributes:
        splits: the split of each sample.
        absent: the classes that are not in a drawn split, for each of these; they have too few units for all splits.
        shares: what train and each drawn split have of all samples.
    """

    splits: list[str]
    absent: dict[str, list[str]]
    shares: dict[str, float]


def draw_splits(labels: Sequence[str], units: Sequence[str], *, missing: Sequence[str], seed: int) -> Drawn:
    """Draws missing splits from samples: every class in every split, 15% of all samples, 15% of each class.

    In this order: units stay whole, training has every class, each missing split has every class that has units for all
    splits, each has its share of all samples within 3 points, and of each class as nearly as can be.

    Args:
        labels: each sample's class.
        units: what each sample belongs to that is not to be divided.
        missing: the splits to draw, of val and test; train gets the rest.
        seed: another seed draws another split, where there are several.

    Returns:
        The same split whenever the same samples and seed are given, in whatever order and process.

    Raises:
        NoSplitError: the classes share units in such a way that they cannot all be in all splits.
    """
    pool = _gather(labels, units, ("train", *missing), seed)
    draft = _improved(_filled(_Draft(pool)))
    if draft.lacking:
        draft = _improved(_filled(_cover(pool)))
    if draft.lacking:
        raise NoSplitError(f"no split with every class in {_listed(pool.splits)} was found, though there may be one")
    if draft.excess[0] and pool.units_of[-1] <= SMALL:
        draft = _nearest(draft)
    return _drawn(draft, units)


class _Kind(NamedTuple):
    counts: tuple[tuple[int, int], ...]
    """Classes and how many samples of them one of these units has; last come all its samples."""
    units: list[str]


@dataclass(frozen=True)
class _Pool:
    splits: tuple[str, ...]
    classes: list[str]
    kinds: list[_Kind]
    members: list[list[int]]
    """For each class, the kinds that have samples of it."""
    units_of: list[int]
    needs: list[list[bool]]
    """For each split, whether it has to have a class."""
    targets: list[list[float]]
    weights: list[float]
    excess: list[float]
    """How much more than tolerated a missing split of this many samples is away from its share."""


def _gather(labels: Sequence[str], units: Sequence[str], splits: tuple[str, ...], seed: int) -> _Pool:
    classes = sorted(set(labels))
    ids = {label: number for number, label in enumerate(classes)}
    counts_of: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for (unit, label), count in Counter(zip(units, labels, strict=True)).items():
        counts_of[unit].append((ids[label], count))
    alike: dict[tuple[tuple[int, int], ...], list[str]] = defaultdict(list)
    for unit in sorted(counts_of, key=lambda unit: _draw(seed, unit)):
        everything = (len(classes), sum(count for _, count in counts_of[unit]))
        counts = (*sorted(counts_of[unit]), everything)
        alike[counts].append(unit)
    kinds = [_Kind(counts, members) for counts, members in alike.items()]
    members: list[list[int]] = [[] for _ in range(len(classes) + 1)]
    units_of, sizes = [0] * (len(classes) + 1), [0] * (len(classes) + 1)
    for number, kind in enumerate(kinds):
        for label_id, count in kind.counts:
            members[label_id].append(number)
            units_of[label_id] += len(kind.units)
            sizes[label_id] += len(kind.units) * count
    shares = [1 - SHARE * (len(splits) - 1)] + [SHARE] * (len(splits) - 1)
    return _Pool(
        splits,
        classes,
        kinds,
        members,
        units_of,
        needs=[
            [not split or number >= len(splits) for number in units_of[:-1]] + [True] for split in range(len(splits))
        ],
        targets=[[share * size for size in sizes] for share in shares],
        # Deviations are counted in units, since a class cannot be placed more finely.
        weights=[(number / size) ** 2 for number, size in zip(units_of, sizes, strict=True)],
        excess=[max(0.0, round(abs(size / len(labels) - SHARE) - TOLERANCE, 9)) for size in range(len(labels) + 1)],
    )


def _draw(seed: int, unit: str) -> bytes:
    return hashlib.sha256(f"{seed} {unit}".encode(errors="surrogatepass")).digest()


class _Draft:
    """Which units are where: how many of each kind are in each split, and so how many samples of each class."""

    def __init__(self, pool: _Pool) -> None:
        self.pool = pool
        self.placed = [[0] * len(pool.splits) for _ in pool.kinds]
        self.have = [[0] * len(pool.units_of) for _ in pool.splits]

    @property
    def lacking(self) -> int:
        """How often a split lacks a class that it needs."""
        pairs = zip(self.pool.needs, self.have, strict=True)
        return sum(needed and not count for needs, have in pairs for needed, count in zip(needs, have, strict=True))

    @property
    def excess(self) -> list[float]:
        """How far the missing splits are off their shares, less what is tolerated; the farthest first."""
        return self._excess([have[-1] for have in self.have])

    def _excess(self, sizes: list[int]) -> list[float]:
        return sorted((self.pool.excess[size] for size in sizes[1:]), reverse=True)

    def put(self, kind: int, split: int, number: int = 1) -> None:
        """Puts units of a kind into a split, or takes them out where the number is negative."""
        self.placed[kind][split] += number
        for label_id, count in self.pool.kinds[kind].counts:
            self.have[split][label_id] += number * count

    def shift(self, kind: int, source: int, to: int) -> None:
        """Moves a unit of a kind."""
        self.put(kind, source, -1)
        self.put(kind, to)

    def strays(self, kind: int, split: int) -> tuple[bool, float]:
        """How bad it would be to add a unit to a split: whether that is too much, and how little it is needed there."""
        pool, have, target, stray = self.pool, self.have[split], self.pool.targets[split], 0.0
        for label_id, count in pool.kinds[kind].counts:
            stray += pool.weights[label_id] * count * (2 * (have[label_id] - target[label_id]) + count)
        size = have[-1] + pool.kinds[kind].counts[-1][1]
        return split > 0 and size > target[-1] and pool.excess[size] > 0, stray

    def change(self, counts: Iterable[tuple[int, int]], source: int, to: int) -> tuple[int, list[float], float]:
        """What it changes to have so many samples in another split: lacking classes, excess afterwards, evenness."""
        pool, lacking, stray, size = self.pool, 0, 0.0, 0
        have_source, target_source, needs_source = self.have[source], pool.targets[source], pool.needs[source]
        have_to, target_to, needs_to = self.have[to], pool.targets[to], pool.needs[to]
        for label_id, size in counts:  # the last of them is the number of all samples
            less, more = have_source[label_id], have_to[label_id]
            away = more - target_to[label_id] - less + target_source[label_id]
            stray += pool.weights[label_id] * size * (away + size)
            if needs_source[label_id]:
                lacking += (less == size) - (not less)
            if needs_to[label_id]:
                lacking += (more + size == 0) - (not more)
        sizes = [have[-1] for have in self.have]
        sizes[source] -= size
        sizes[to] += size
        return lacking, self._excess(sizes), stray


def _filled(draft: _Draft) -> _Draft:
    """Places the units that are nowhere yet: the same part of each kind, and then one by one where they lack most."""
    pool, rest = draft.pool, []
    for kind, (_, units) in enumerate(pool.kinds):
        for split, target in enumerate(pool.targets):
            part = int(len(units) * target[-1] / sum(have[-1] for have in pool.targets))
            draft.put(kind, split, min(max(part - draft.placed[kind][split], 0), len(units) - sum(draft.placed[kind])))
        rest += [kind] * (len(units) - sum(draft.placed[kind]))
    # Large units first, since small ones fill the gaps; kinds stand in the order drawn, so a kind's number is a draw.
    for kind in sorted(rest, key=lambda kind: -pool.kinds[kind].counts[-1][1] * (kind + 1)):
        draft.put(kind, min(range(len(pool.splits)), key=lambda split: draft.strays(kind, split)))
    return draft


def _improved(draft: _Draft) -> _Draft:
    """Moves and exchanges units as long as that is better."""
    kinds, ways = range(len(draft.pool.kinds)), list(permutations(range(len(draft.pool.splits)), 2))
    steps = range(1, 1 + min(len(kinds) // 2, PAIRS // max(len(kinds), 1)))
    for _ in range(ROUNDS):
        better = [_move(draft, kind, *way) for kind in kinds for way in ways]
        if not any(better):
            better = [_exchange(draft, kind, (kind + step) % len(kinds)) for step in steps for kind in kinds]
        if not any(better):
            break
    return draft


def _move(draft: _Draft, kind: int, source: int, to: int) -> bool:
    """Moves units of a kind while that is better."""
    moved = False
    while draft.placed[kind][source] and _chain(draft, kind, source, to):
        moved = True
    return moved


def _chain(draft: _Draft, kind: int, source: int, to: int) -> bool:
    """Moves a unit, and another one back where a class then lacks, and so on; undone if that is not better."""
    goal, moves, lacking, stray = (0, draft.excess, -1e-9), [], 0, 0.0
    link: tuple[int, int, int] | None = (kind, source, to)
    while link:
        more_lacking, excess, more_stray = draft.change(draft.pool.kinds[link[0]].counts, *link[1:])
        lacking, stray = lacking + more_lacking, stray + more_stray
        better = (lacking, excess, stray) < goal
        if not better and lacking <= 0:
            break
        draft.shift(*link)
        if better:
            return True
        moves.append(link)
        link = _link(draft, moves) if len(moves) < CHAIN else None
    for kind, source, to in reversed(moves):
        draft.shift(kind, to, source)
    return False


def _link(draft: _Draft, moves: list[tuple[int, int, int]]) -> tuple[int, int, int] | None:
    """A move by which a class is back where it lacks since these moves."""
    pool, moved = draft.pool, {kind for kind, _, _ in moves}
    for kind, source, to in reversed(moves):
        for label_id, _ in pool.kinds[kind].counts:
            if pool.needs[source][label_id] and not draft.have[source][label_id]:
                for other in pool.members[label_id]:
                    if draft.placed[other][to] and other not in moved:
                        return other, to, source
    return None


def _exchange(draft: _Draft, one: int, other: int) -> bool:
    """Exchanges units of two kinds while that is better."""
    exchanged, difference = False, Counter(dict(draft.pool.kinds[one].counts))
    difference.subtract(dict(draft.pool.kinds[other].counts))
    counts = sorted(difference.items())
    for source, to in permutations(range(len(draft.pool.splits)), 2):
        while draft.placed[one][source] and draft.placed[other][to]:
            if draft.change(counts, source, to) >= (0, draft.excess, -1e-9):
                break
            draft.shift(one, source, to)
            draft.shift(other, to, source)
            exchanged = True
    return exchanged


class _Item(NamedTuple):
    """What the exact search places: units that have the same classes."""

    kinds: list[int]
    """The unit's kind, for each unit."""
    classes: list[int]
    ways: list[tuple[int, ...]]
    """To which splits the units may go, each to another: for the classes that is as good as any other way."""


class _GaveUpError(Exception):
    """The exact search made too many choices."""


def _cover(pool: _Pool) -> _Draft:
    """Places the units that decide whether there is a split with every class.

    Raises:
        NoSplitError: there is none.
    """
    classes = [label_id for label_id, number in enumerate(pool.units_of) if number <= FEW]
    try:
        draft = _search(pool, _items(pool, classes))
    except _GaveUpError:
        return _Draft(pool)
    if draft is None:
        raise NoSplitError(_reason(pool, classes))
    return draft


def _items(pool: _Pool, classes: Iterable[int]) -> list[_Item]:
    wanted, splits = set(classes), range(len(pool.splits))
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for kind, (counts, units) in enumerate(pool.kinds):
        alike[tuple(label_id for label_id, _ in counts if label_id in wanted)] += [kind] * min(len(units), len(splits))
    return [
        _Item(kinds[: len(splits)], list(ids), list(combinations(splits, min(len(kinds), len(splits)))))
        for ids, kinds in alike.items()
        if ids
    ]


def _search(pool: _Pool, items: list[_Item], *, below: float | None = None, nodes: int = NODES) -> _Draft | None:
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
    pool: _Pool,
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


def _room(pool: _Pool, below: float | None) -> list[tuple[int, int]]:
    """How many samples each split may have, from and to, for less excess than this; nothing if any number will do."""
    if below is None:
        return []
    sizes = [size for size, excess in enumerate(pool.excess) if excess < below] or [-1]
    everything, missing = len(pool.excess) - 1, len(pool.splits) - 1
    train = (everything - missing * sizes[-1], everything - missing * sizes[0])
    return [train, *[(sizes[0], sizes[-1])] * missing]


def _fits(pool: _Pool, items: list[_Item], ways: list[list[tuple[int, ...]]], room: list[tuple[int, int]]) -> bool:
    if not room:
        return True
    least, most = [0] * len(room), [0] * len(room)
    for item, open_ways in zip(items, ways, strict=True):
        size = pool.kinds[item.kinds[0]].counts[-1][1]
        for (split,) in open_ways:
            most[split] += size
            least[split] += size * (len(open_ways) == 1)
    return all(least[split] <= high and most[split] >= low for split, (low, high) in enumerate(room))


def _placed(pool: _Pool, items: list[_Item], ways: list[list[tuple[int, ...]]]) -> _Draft:
    draft = _Draft(pool)
    for item, (way,) in zip(items, ways, strict=True):
        for kind, split in zip(item.kinds, way, strict=True):
            draft.put(kind, split)
    return draft


def _nearest(draft: _Draft) -> _Draft:
    """A draft whose shares are as near as can be, or as far as the exact search comes."""
    pool = draft.pool
    ways: list[tuple[int, ...]] = [(split,) for split in range(len(pool.splits))]
    items = [
        _Item([kind], [label_id for label_id, _ in counts], ways)
        for kind, (counts, units) in enumerate(pool.kinds)
        for _ in units
    ]
    try:
        while draft.excess[0] and (nearer := _search(pool, items, below=draft.excess[0])):
            draft = _improved(nearer)
    except _GaveUpError:
        pass
    return draft


def _reason(pool: _Pool, classes: list[int]) -> str:
    """Which classes cannot all be where they are needed, though without any one of them the others could."""
    blamed = list(classes)
    for label_id in sorted(classes, reverse=True):
        rest = [other for other in blamed if other != label_id]
        try:
            blamed = blamed if _search(pool, _items(pool, rest), nodes=2 * NODES // len(classes)) else rest
        except _GaveUpError:
            continue
    videos, everywhere = "different videos or groups", _listed(pool.splits)
    names = {label_id: f"'{pool.classes[label_id]}'" for label_id in blamed if label_id < len(pool.classes)}
    if not names:
        return f"{pool.units_of[-1]} {videos} are too few for {everywhere}"
    if len(names) < len(blamed):
        needed = f"since train needs them for {few([*names.values()])}"
        return f"too few of the {pool.units_of[-1]} {videos} are left for {_listed(pool.splits[1:])}, {needed}"
    hard = next(label_id for label_id in blamed if pool.needs[1][label_id])
    name, others = names.pop(hard), few([*names.values()])
    return (
        f"class {name} cannot be in each of {everywhere}: "
        f"its {pool.units_of[hard]} {videos} cannot be there together with those of {others}"
    )


def _listed(words: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def _drawn(draft: _Draft, units: Sequence[str]) -> Drawn:
    pool = draft.pool
    split_of: dict[str, str] = {}
    for (_, alike), numbers in zip(pool.kinds, draft.placed, strict=True):
        names = [name for name, number in zip(pool.splits, numbers, strict=True) for _ in range(number)]
        split_of.update(zip(alike, names, strict=True))
    rows = dict(zip(pool.splits, draft.have, strict=True))
    return Drawn(
        splits=[split_of[unit] for unit in units],
        absent={
            split: [name for name, n in zip(pool.classes, rows[split], strict=False) if not n]
            for split in pool.splits[1:]
        },
        shares={split: rows[split][-1] / len(units) for split in pool.splits},
    )
