"""Requests that clients should not send, drawn from good ones."""

import base64
import json
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

JSON = "application/json"


class Body(NamedTuple):
    """What is sent, and as what."""

    content: bytes
    content_type: str | None


def draw_requests(videos: list[bytes], *, seed: int) -> Iterator[Body]:
    """Draws requests without end, always the same for a seed.

    Args:
        videos: whole files, which are broken in many ways.
        seed: of the drawing.
    """
    rng = random.Random(seed)
    while True:
        yield rng.choice(_KINDS)(rng, videos)


def _mutate(rng: random.Random, content: bytes) -> bytes:
    """Changes bytes, or cuts, repeats or moves pieces, once or several times; much of a container's structure stays."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 40))):
        # Headers are what decoders believe, and stand at one end of a file or the other.
        place = rng.choice((rng.randrange(64), rng.randrange(len(changed)), len(changed) - 1 - rng.randrange(600)))
        place = min(max(place, 0), len(changed) - 1)
        match rng.randrange(6):
            case 0:
                changed[place] = rng.randrange(256)
            case 1:
                changed[place : place + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"))
            case 2:
                del changed[place : place + rng.choice((1, 7, 500, 20_000))]
            case 3:
                changed[place:place] = changed[place : place + rng.choice((1, 8, 300))]
            case 4:
                changed[place:place] = rng.randbytes(rng.choice((1, 16, 400)))
            case 5:
                del changed[max(1, int(len(changed) * rng.random())) :]
        if not changed:
            return b""
    return bytes(changed)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _broken_video(rng: random.Random, videos: list[bytes]) -> Body:
    broken = _mutate(rng, rng.choice(videos))
    return Body(json.dumps({"inputs": {"video": [_text(broken)]}}).encode(), JSON)


def _several_videos(rng: random.Random, videos: list[bytes]) -> Body:
    rows = [{"video": _text(_mutate(rng, rng.choice(videos)) if rng.random() < 0.5 else rng.choice(videos))}]
    rows *= rng.choice((1, 2, 3))
    return Body(json.dumps({"dataframe_records": rows, "params": {"bad_videos": "report"}}).encode(), JSON)


def _broken_base64(rng: random.Random, videos: list[bytes]) -> Body:
    text = list(_text(rng.choice(videos)))
    for _ in range(rng.choice((1, 3, 50))):
        text[rng.randrange(len(text))] = rng.choice(("*", "=", " ", "\n", "A", "\u00e9", "\0", "\U0001f600", ""))
    return Body(json.dumps({"instances": [{"video": "".join(text)}]}).encode(), JSON)


def _broken_json(rng: random.Random, videos: list[bytes]) -> Body:
    good = json.dumps({"dataframe_split": {"columns": ["video"], "data": [[_text(rng.choice(videos)[:300])]]}}).encode()
    return Body(_mutate(rng, good), JSON)


def _odd_value(rng: random.Random) -> Any:
    return rng.choice(
        (None, True, 5, -1, 1.5, 10**400, "", "x", "***", "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/a.mp4",
         [], {}, [[]], [None], {"video": "x"}, [["x"]], [{"video": 1}], {"columns": ["video"]}, "\ud800", "a" * 5000)
    )  # fmt: skip


def _odd_structure(rng: random.Random, videos: list[bytes]) -> Body:
    field = rng.choice(("inputs", "instances", "dataframe_records", "dataframe_split", "videos", "params", ""))
    video = rng.choice((_text(rng.choice(videos)[:200]), _odd_value(rng)))
    value = rng.choice(
        (_odd_value(rng), {"video": video}, {"video": [video]}, [{"video": video}], [video], {"video": {"a": video}},
         {"columns": ["video"], "data": [[video]]},
         {"columns": rng.choice((["video"], [], ["a", "b"], 5)), "data": video},
         {"index": [0], "columns": ["video"], "data": [[video], [video]]}, [{"video": video}, {"clip": video}, video])
    )  # fmt: skip
    return Body(json.dumps({field: value, **rng.choice(({}, {}, {"inputs": 1}, {"x": 2}))}).encode(), JSON)


def _odd_params(rng: random.Random, videos: list[bytes]) -> Body:
    name = rng.choice(("top_k", "num_clips", "bad_videos", "other", ""))
    params = rng.choice(({name: _odd_value(rng)}, _odd_value(rng)))
    return Body(json.dumps({"inputs": {"video": [_text(rng.choice(videos))]}, "params": params}).encode(), JSON)


def _odd_type(rng: random.Random, videos: list[bytes]) -> Body:
    kinds = (
        None, "", ";", "text/csv", "text/html", "application/vnd.apache.parquet", "application/json; charset=latin-1",
        "application/json; charset=utf-8", "application/json;x=y", "multipart/form-data; boundary=x", "\xe9",
    )  # fmt: skip
    content = rng.choice((b"", b"video\n", b"video\nx\n", b"PAR1PAR1", b"{}", rng.randbytes(200), rng.choice(videos)))
    return Body(content, rng.choice(kinds))


def _deep(rng: random.Random, videos: list[bytes]) -> Body:
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    depth = rng.choice((50, 900, 20_000))
    return Body(('{"inputs":' + opening * depth + "1" + closing * depth + "}").encode(), JSON)


def _csv(rng: random.Random, videos: list[bytes]) -> Body:
    text = f"video\n{_text(rng.choice(videos)[: rng.choice((30, 3000))])}\n".encode()
    return Body(_mutate(rng, text), "text/csv")


_KINDS: list[Callable[[random.Random, list[bytes]], Body]] = [
    *[_broken_video] * 6,
    *[_several_videos] * 2,
    *[_broken_base64] * 2,
    *[_broken_json] * 3,
    *[_odd_structure] * 4,
    *[_odd_params] * 2,
    *[_odd_type] * 2,
    _deep,
    _csv,
]
