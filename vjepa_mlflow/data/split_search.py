"""Which samples train, validate and test: searched for and drawn by hashes, so that no library's generator decides."""

from collections import Counter
from collections.abc import Sequence
from itertools import permutations

from vjepa_mlflow.data.split_cover import NoSplitError, cover, listed, nearer
from vjepa_mlflow.data.split_units import Draft, gather

ROUNDS = 12
"""How often all units are gone through for something better, if there is something each time."""

PAIRS = 10_000
"""How many exchanges of two units are tried a round: all of them with up to some 140 kinds of units."""

CHAIN = 40
"""How many units are moved at once at most, each because of the one before."""

ATTEMPTS = 3
"""To find a split with every class, each with units in another order, before that is given up."""

SMALL = 40
"""With no more units than this, the exact search also looks for shares that are nearer."""


def draw_splits(labels: Sequence[str], units: Sequence[str], *, missing: Sequence[str], seed: int) -> list[str]:
    """Draws missing splits from samples: every class in every split, 15% of all samples, 15% of each class.

    In this order: units stay whole, training has every class, each missing split has every class that has units for all
    splits, each has its share of all samples within 3 points, and of each class as nearly as can be.

    Args:
        labels: each sample's class.
        units: what each sample belongs to that is not to be divided.
        missing: the splits to draw, of val and test; train gets the rest.
        seed: another seed draws another split, where there are several.

    Returns:
        Each sample's split, the same one whenever the same samples and seed are given, in whatever order and process.

    Raises:
        NoSplitError: the classes share units in such a way that they cannot all be in all splits.
    """
    for attempt in range(ATTEMPTS):
        pool = gather(labels, units, ("train", *missing), f"{seed}.{attempt}" if attempt else str(seed))
        draft = _improved(_filled(Draft(pool)))
        if draft.lacking:
            draft = _improved(_filled(cover(pool)))
        if not draft.lacking:
            break
    else:
        raise NoSplitError(f"no split with every class in {listed(pool.splits)} was found, though there may be one")
    while draft.excess[0] and pool.units_of[-1] <= SMALL and (better := nearer(pool, below=draft.excess[0])):
        draft = _improved(better)
    return _drawn(draft, units)


def _filled(draft: Draft) -> Draft:
    """Places the units that are nowhere yet: the same part of each kind, and then one by one where they lack most."""
    pool, rest = draft.pool, []
    for kind, (_, units) in enumerate(pool.kinds):
        for split, target in enumerate(pool.targets):
            part = int(len(units) * target[-1] / sum(have[-1] for have in pool.targets))
            draft.put(kind, split, min(max(part - draft.placed[kind][split], 0), len(units) - sum(draft.placed[kind])))
        rest += [kind] * (len(units) - sum(draft.placed[kind]))
    # Large units first, since small ones fill the gaps; of equal ones the one that was drawn first.
    for kind in sorted(rest, key=lambda kind: (-pool.kinds[kind].counts[-1][1], kind)):
        draft.put(kind, min(range(len(pool.splits)), key=lambda split: draft.strays(kind, split)))
    return draft


def _improved(draft: Draft) -> Draft:
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


def _move(draft: Draft, kind: int, source: int, to: int) -> bool:
    """Moves units of a kind while that is better."""
    moved = False
    while draft.placed[kind][source] and _chain(draft, kind, source, to):
        moved = True
    return moved


def _chain(draft: Draft, kind: int, source: int, to: int) -> bool:
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


def _link(draft: Draft, moves: list[tuple[int, int, int]]) -> tuple[int, int, int] | None:
    """A move by which a class is back where it lacks since these moves."""
    pool, moved = draft.pool, {kind for kind, _, _ in moves}
    for kind, source, to in reversed(moves):
        for label_id, _ in pool.kinds[kind].counts:
            if pool.needs[source][label_id] and not draft.have[source][label_id]:
                for other in pool.members[label_id]:
                    if draft.placed[other][to] and other not in moved:
                        return other, to, source
    return None


def _exchange(draft: Draft, one: int, other: int) -> bool:
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


def _drawn(draft: Draft, units: Sequence[str]) -> list[str]:
    split_of: dict[str, str] = {}
    for (_, alike), numbers in zip(draft.pool.kinds, draft.placed, strict=True):
        names = [name for name, number in zip(draft.pool.splits, numbers, strict=True) for _ in range(number)]
        split_of.update(zip(alike, names, strict=True))
    return [split_of[unit] for unit in units]
