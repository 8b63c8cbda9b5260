"""Attacks a server and looks what others notice: how soon a good request is answered meanwhile, and what it costs.

    python -m tools.siege --attack slow_file --attack large_frames --json siege.json

The server is a real `mlflow models serve` with one worker and the tiny model. Each attack of `tools.attacks` is made by
one client and then by eight at once, again and again while it takes little time, and a good request, README's, is sent
beside it by connections of its own. An attack holds if

- beside one of it a good request is answered within twice its usual time, or within a second;
- beside eight of it within five seconds;
- of the eight each is answered as the one was, or refused with 429 or 503 within `AT_ONCE` seconds; none by a fault;
- the server's memory (what it and its processes have of their own, and files in memory that they hold open) grows by
  no more than `--memory`, and is back where it was soon after;
- afterwards a good request takes its usual time, and no process is left stopped or dead.
"""

import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from benchmarks.common import write_json
from benchmarks.serving import save_model, server
from tools.attacks import ATTACKS, good_body
from tools.clients import NOT_YET, Answer, Client, ask, describe, told
from tools.watch import Memory, broken, end_children

LEAST_SECONDS = 3.0
"""For which an attack is repeated that takes less."""

ATTACK_SECONDS = 24.0
"""For which attackers wait for answers. A decoder may take 20 s over a clip."""

SOON, LATER = 1.0, 5.0
"""Seconds for a good request beside one attack (or twice its usual time), and beside eight."""

GOOD_SECONDS = 8.0
"""After which nobody waits any longer for a good request."""

AT_ONCE = 8.0
"""Seconds for a refusal: of eight that begin at once, all have some time before it is known which takes much."""

SETTLE_SECONDS = 15.0
"""For which a server may take to be as before."""

COME_BACK_MIB = 256.0
"""Beyond its memory before, which it may keep."""

PAUSE = 0.05
REFUSED = (429, 503)


@dataclass
class Beside:
    """What was seen while an attack was going on.

    Attributes:
        seconds: of the good requests.
        refused: what good requests got that were not answered well.
        answers: of the attackers.
    """

    seconds: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    @property
    def worst(self) -> float:
        return max(self.seconds, default=0.0)

    def __str__(self) -> str:
        return f"{statistics.median(self.seconds):5.2f} {self.worst:5.2f}" if self.seconds else "    -     -"


@dataclass
class Result:
    """What became of an attack; memory in MiB, times in seconds.

    Attributes:
        attack: its name.
        alone: a good request's usual time.
        one: beside one attack.
        eight: beside eight of them.
        after: a good request's time at last.
        rest: memory before.
        peak: at most.
        end: memory at last.
        left: processes that are stopped or dead.
        faults: what did not hold.
    """

    attack: str
    alone: float = 0.0
    one: Beside = field(default_factory=Beside)
    eight: Beside = field(default_factory=Beside)
    after: float = 0.0
    rest: float = 0.0
    peak: float = 0.0
    end: float = 0.0
    left: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def line(self) -> str:
        memory = f"{self.rest:5.0f} {self.peak:5.0f} {self.end:5.0f}"
        times = f"{self.alone:5.2f} | {self.one} | {self.eight} | {self.after:5.2f}"
        return f"{self.attack:18} | {times} | {memory} | {'; '.join(self.faults) or 'holds'}"


HEAD = (
    "attack             | alone | beside 1    | beside 8    | after | MiB before, at most, at last | verdict\n"
    "                   |     s | median max  | median max  |     s |"
)


class Siege:
    """A server that attacks are tried on.

    Args:
        model: what is served.
        folder: for its log.
        memory: MiB that it may take beyond what it has at rest.
        kill_at: MiB at which it is ended.
    """

    def __init__(self, model: Path, folder: Path, *, memory: float, kill_at: float):
        self._model, self._folder, self._most, self._kill_at = model, folder, memory, kill_at
        self._body = good_body(top_k=2)
        self._expected = b""

    def run(self, attacks: Sequence[Callable[[], Client]]) -> Iterator[Result]:
        """Tries attacks, on one server for as long as it is as before afterwards."""
        waiting = list(attacks)
        while waiting:
            with self._serving() as (port, memory):
                while waiting:
                    attack = waiting.pop(0)
                    yield (result := self._try(attack.__name__, attack(), port, memory))
                    if not memory.is_watching or not self._is_back(result, result.after, result.end):
                        break

    @contextmanager
    def _serving(self) -> Iterator[tuple[int, Memory]]:
        with server(self._model, self._folder, workers=1) as (address, process):
            memory = Memory(process, kill_at=self._kill_at)
            try:
                port = int(address.rpartition(":")[2])
                self._expected = ask(port, self._body, until=time.monotonic() + GOOD_SECONDS).content
                yield port, memory
            finally:
                memory.close()
                end_children()

    def _try(self, name: str, client: Client, port: int, memory: Memory) -> Result:
        result = Result(name)
        result.alone = statistics.median(self._good(port).seconds for _ in range(5))
        result.rest = memory.most = memory.now()
        result.one = self._beside(port, client, 1, memory)
        self._settle(port, result, memory)
        if memory.is_watching:
            result.eight = self._beside(port, client, 8, memory)
        result.after = self._settle(port, result, memory)
        result.peak, result.end = memory.most, memory.now()
        result.left = broken(memory.family())
        result.faults = self._faults(result, memory)
        return result

    def _good(self, port: int) -> Answer:
        return ask(port, self._body, until=time.monotonic() + GOOD_SECONDS)

    def _beside(self, port: int, client: Client, count: int, memory: Memory) -> Beside:
        """Has so many clients attack at once, and sends good requests for as long as one of them is at it."""
        seen, begun = Beside(), time.monotonic()
        until = begun + ATTACK_SECONDS

        def attack() -> list[Answer]:
            answers = client(port, until)
            while time.monotonic() < min(begun + LEAST_SECONDS, until):
                answers += client(port, until)
            return answers

        with ThreadPoolExecutor(count) as threads:
            attackers = [threads.submit(attack) for _ in range(count)]
            while memory.is_watching and (not seen.seconds or not all(one.done() for one in attackers)):
                answer = self._good(port)
                seen.seconds.append(answer.seconds)
                if answer.content != self._expected:
                    seen.refused.append(describe(answer))
                time.sleep(PAUSE)
            seen.answers = [answer for one in attackers for answer in one.result()]
        return seen

    def _settle(self, port: int, result: Result, memory: Memory) -> float:
        """Waits until the server is as before, for a while. Returns a good request's time."""
        end = time.monotonic() + SETTLE_SECONDS
        while memory.is_watching:
            answer = self._good(port)
            seconds = answer.seconds if answer.content == self._expected else GOOD_SECONDS
            if self._is_back(result, seconds, memory.now()) or time.monotonic() > end:
                return seconds
            time.sleep(PAUSE)
        return GOOD_SECONDS

    def _is_back(self, result: Result, seconds: float, taken: float) -> bool:
        """Whether a good request's time, and memory, are as before an attack."""
        return seconds <= self._limit(result) and taken <= result.rest + COME_BACK_MIB

    @staticmethod
    def _limit(result: Result) -> float:
        return max(SOON, 2 * result.alone)

    def _faults(self, result: Result, memory: Memory) -> list[str]:
        """What did not hold, in words."""
        faults = []
        for beside, words, limit in (
            (result.one, "beside one", self._limit(result)),
            (result.eight, "beside eight", LATER),
        ):
            if beside.worst > limit:
                faults.append(f"{words} {beside.worst:.1f} s")
            faults += [f"{words} good ones got {what}" for what, _ in Counter(beside.refused).most_common(1)]
        if memory.end:
            return [*faults, memory.end]
        expected = {(answer.status, answer.sentence) for answer in result.one.answers}
        faults += sorted({fault for answer in result.one.answers if (fault := wrong(answer))})
        faults += sorted({fault for answer in result.eight.answers if (fault := wrong(answer, expected))})
        if result.peak > result.rest + self._most:
            faults.append(f"{result.peak - result.rest:.0f} MiB more")
        if result.end > result.rest + COME_BACK_MIB:
            faults.append(f"{result.end - result.rest:.0f} MiB kept")
        if result.after > self._limit(result):
            faults.append(f"afterwards {result.after:.1f} s")
        return faults + result.left


def wrong(answer: Answer, expected: set[tuple[int, str]] | None = None) -> str:
    """What is wrong with an attacker's answer; empty if nothing is. That there is none yet is not wrong.

    Args:
        answer: to look at.
        expected: statuses and sentences that are right beside refusals; None: any but faults.
    """
    if answer.status in REFUSED:
        return f"{answer.status} after more than {AT_ONCE:g} s" if answer.seconds > AT_ONCE else ""
    if answer.status == 0:
        return "" if answer.sentence == NOT_YET else f"attackers got {answer.sentence}"
    if answer.status >= 500:
        return f"attackers got {answer.status}"
    if expected is not None and any(status for status, _ in expected) and answer[:2] not in expected:
        return f"attackers got {answer.status} {answer.sentence[:60]!r} only beside others"
    return ""


def as_json(result: Result) -> dict[str, Any]:
    """What can be written, without the bodies of answers."""
    fields = asdict(result)
    for count in ("one", "eight"):
        beside: Beside = getattr(result, count)
        fields[count]["answers"] = told(beside.answers)
        fields[count]["worst"] = beside.worst
    return fields


NAMES = [attack.__name__ for attack in ATTACKS]


@click.command()
@click.option("--attack", "names", multiple=True, type=click.Choice(NAMES), help="Only these.")
@click.option("--memory", default=4.0, show_default=True, help="GiB that the server may take beyond its own at rest.")
@click.option("--kill-at", default=8.0, show_default=True, help="GiB at which it is ended.")
@click.option("--json", "path", help="Where the results are written.")
def main(names: tuple[str, ...], memory: float, kill_at: float, path: str | None) -> None:
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        siege = Siege(
            save_model(folder / "model", "tiny", precision="fp32"), folder, memory=1024 * memory, kill_at=1024 * kill_at
        )
        print(HEAD, flush=True)
        for result in siege.run([attack for attack in ATTACKS if not names or attack.__name__ in names]):
            results.append(result)
            print(result.line(), flush=True)
            for who, beside in ((1, result.one), (8, result.eight)):
                for line in told(beside.answers):
                    print(f"    {who}: {line}", flush=True)
            write_json(path, {"attacks": [as_json(one) for one in results]})
    held = sum(not result.faults for result in results)
    print(f"{len(results)} attacks: {held} held")
    sys.exit(held < len(results))


if __name__ == "__main__":
    main()
