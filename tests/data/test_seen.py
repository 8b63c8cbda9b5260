import json
import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import pytest

from vjepa_mlflow import UserError
from vjepa_mlflow.data import Sample, SeenVideos, read_seen


def digest(name: str) -> str:
    return sha256(name.encode()).hexdigest()


def samples(names: Iterable[str], group: str | None = None) -> list[Sample]:
    return [Sample(Path(name), name, "a", digest=digest(name), group=group) for name in names]


def seen(before: SeenVideos | None = None, **names: str) -> SeenVideos:
    return SeenVideos.of({split: samples(of_split) for split, of_split in names.items()}, before)


def test_it_knows_what_it_and_those_before_it_have_seen() -> None:
    first = seen(train="abc", val="d", test="e")
    second = seen(first, train="xe", val="ya", test="zd")
    roles = {name: second.role(digest(name)) for name in "abcdexyzn"}
    # What was trained on, by whichever model, is neither validated nor tested on.
    assert roles == dict.fromkeys("abcex", "train") | dict.fromkeys("dy", "val") | {"z": "test", "n": None}


def test_it_counts_what_it_has_seen() -> None:
    assert seen(train="ab", test="d").count(samples("aabdn")) == {"train": 3, "test": 1, "new": 1}


def test_it_knows_groups_by_their_names() -> None:
    first = SeenVideos.of({"train": samples("a", "Anna"), "val": samples("b", "ben"), "test": samples("c", "Cem")})
    second = SeenVideos.of({"train": samples("d", "Dana")}, first)
    again = [*samples("x", "anna"), *samples("y", "ben"), *samples("z", "Cem"), *samples("w", "Dana"), *samples("v")]
    assert second.groups_trained_on(again) == ["Dana", "anna", "ben"]


def test_it_is_kept_beside_the_weights(tmp_path: Path) -> None:
    assert read_seen(tmp_path) is None
    kept = seen(SeenVideos.nothing_of("models:/old/1"), train="abc", val="d", test="e")
    kept.write(tmp_path)
    assert read_seen(tmp_path) == kept
    assert kept.unknown == ("models:/old/1",)


def test_a_hundred_thousand_videos_take_two_megabytes(tmp_path: Path) -> None:
    SeenVideos.of({"train": samples(map(str, range(100_000)))}).write(tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size < 2.1e6


WHOLE = {"train": ["0" * 16], "val": [], "test": [], "groups": [], "unknown": ["models:/a/1"]}
BROKEN: list[dict[str, object]] = [
    {"train": "0" * 16},
    {"train": [0]},
    {"train": ["0" * 15]},
    {"train": [["0" * 16]]},
    {"val": None},
    {"groups": ["Anna"]},
    {"unknown": [1]},
    {"unknown": "models:/a/1"},
]


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"train": []}', "\udcff", "[" * 100_000, *(json.dumps(WHOLE | changes) for changes in BROKEN)],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "seen_videos.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"seen_videos.json: cannot be read: expected it as it was saved"):
        read_seen(tmp_path)


def test_what_is_whole_is_read_and_a_pipe_is_not(tmp_path: Path) -> None:
    path = tmp_path / "seen_videos.json"
    path.write_text(json.dumps(WHOLE))
    read = read_seen(tmp_path)
    assert read is not None
    assert (read.role("0" * 64), read.unknown) == ("train", ("models:/a/1",))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"seen_videos.json: cannot be read: expected it as it was saved"):
        read_seen(tmp_path)
