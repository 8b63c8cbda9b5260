"""What is split: units of samples, alike ones together, and where they are put.

Units with the same number of samples of the same classes are of one kind: how many of a kind go to which split is all
that is searched for, and the seed says which. All samples together count as one more class, which every split needs.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

SHARE = 0.15
"""What a missing split gets of all samples, and of each class."""

TOLERANCE = 0.03
"""How far from its share of all samples a split may be for the sake of the classes."""


class Kind(NamedTuple):
    counts: tuple[tuple[int, int], ...]
    """Classes and how many samples of them one of these units has; last come all its samples."""
    units: list[str]


@dataclass(frozen=True)
class Pool:
    splits: tuple[str, ...]
    classes: list[str]
    kinds: list[Kind]
    members: list[list[int]]
    """For each class, the kinds that have samples of it."""
    units_of: list[int]
    needs: list[list[bool]]
    """For each split, whether it has to have a class."""
    targets: list[list[float]]
    weights: list[float]
    excess: list[float]
    """How much more than tolerated a missing split of this many samples is away from its share."""


def gather(labels: Sequence[str], units: Sequence[str], splits: tuple[str, ...], seed: str) -> Pool:
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
    kinds = [Kind(counts, members) for counts, members in alike.items()]
    members: list[list[int]] = [[] for _ in range(len(classes) + 1)]
    units_of, sizes = [0] * (len(classes) + 1), [0] * (len(classes) + 1)
    for number, kind in enumerate(kinds):
        for label_id, count in kind.counts:
            members[label_id].append(number)
            units_of[label_id] += len(kind.units)
            sizes[label_id] += len(kind.units) * count
    shares = [1 - SHARE * (len(splits) - 1)] + [SHARE] * (len(splits) - 1)
    return Pool(
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


def _draw(seed: str, unit: str) -> bytes:
    return hashlib.sha256(f"{seed} {unit}".encode(errors="surrogatepass")).digest()


class Draft:
    """Which units are where: how many of each kind are in each split, and so how many samples of each class."""

    def __init__(self, pool: Pool) -> None:
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
