"""Which clips a training will read, reading by reading, and what of that is still to come."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice

from vjepa_mlflow.features.assembly import Clip

CLOSE = 2
"""Readings that come next and count as sure: an epoch's training set and its validation set."""


class Readings:
    """The readings that are expected, each a list of clips, and the one that is under way.

    Args:
        name: of a clip's features, by which clips of files with the same content are one.
    """

    def __init__(self, name: Callable[[Clip], str]) -> None:
        self._name = name
        self._expected: deque[list[Clip]] = deque()
        self._sure = 0
        self._begun: deque[tuple[Clip, str]] = deque()  # what is left of the reading, with the names
        self._times: Counter[str] = Counter()

    def expect(self, readings: Iterable[Sequence[Clip]], *, sure: int | None = None) -> None:
        """Says which readings there will be, in their order.

        Args:
            readings: the clips of each.
            sure: how many of them there will surely be; None: all. Of the others only the next are `upcoming`.
        """
        self._expected = deque(map(list, readings))
        self._sure = len(self._expected) if sure is None else sure
        self._times = Counter(map(self._name, chain.from_iterable(self._expected)))

    def begin(self, clips: Sequence[Clip]) -> list[str]:
        """A reading begins, expected or not; those that were expected before it are done, or will not be.

        Returns:
            The names of the clips that are no longer wanted therefore.
        """
        skipped = [name for _, name in self._begun]
        names = list(map(self._name, clips))
        if list(clips) in self._expected:
            while (reading := self._expected.popleft()) != list(clips):
                skipped += map(self._name, reading)
                self._sure -= 1
            self._sure -= 1
        else:
            self._times.update(names)
        self._times.subtract(skipped)
        self._begun = deque(zip(clips, names, strict=True))
        return [name for name in dict.fromkeys(skipped) if not self.want(name)]

    def read_one(self) -> None:
        """The next clip of the reading has been read."""
        self._times[self._begun.popleft()[1]] -= 1

    def want(self, name: str) -> bool:
        """Whether a clip of this name is still to be read."""
        return self._times[name] > 0

    @property
    def were_unsure(self) -> bool:
        """Whether some that are upcoming now were not when the last reading began."""
        return self._sure < CLOSE <= len(self._expected)

    def upcoming(self, *, close: int = CLOSE) -> Iterator[Clip]:
        """The clips that will be read next, in order, as often as they will be, as far as that is sure.

        Args:
            close: so many readings count as sure in any case.
        """
        yield from (clip for clip, _ in self._begun)
        yield from chain.from_iterable(islice(self._expected, max(self._sure, close)))
