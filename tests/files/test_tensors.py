import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save_file

from vjepa_mlflow.files.tensors import header, read_layout, read_metadata


def test_the_layout_is_that_of_the_library(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(3), "c": torch.zeros(0, 4, dtype=torch.bfloat16)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    content = (tmp_path / "a.safetensors").read_bytes()
    layout = read_layout(tmp_path / "a.safetensors")
    assert {name: (one.dtype, one.shape) for name, one in layout.items()} == {
        "b": ("F32", (2, 3)),
        "a": ("I64", ()),
        "c": ("BF16", (0, 4)),
    }
    assert content[layout["b"].begin : layout["b"].end] == tensors["b"].numpy().tobytes()
    assert [one.begin for one in layout.values()] == sorted(one.begin for one in layout.values())
    assert read_metadata(content) == {"format": "pt"}


def test_the_library_reads_what_begins_with_such_a_header() -> None:
    values = torch.arange(6.0).reshape(2, 3)
    content = header({"a": ("F32", (2, 3), 24), "b": ("U8", (1,), 1)}, {"name": "x"}) + values.numpy().tobytes() + b"\7"
    read = load(content)
    assert torch.equal(read["a"], values)
    assert read["b"].tolist() == [7]
    assert len(header({"a": ("F32", (2, 3), 24)}, {})) % 8 == 0
    assert read_metadata(content) == {"name": "x"}


def write(path: Path, said: object, tensors: bytes = b"\0" * 4) -> Path:
    text = said if isinstance(said, bytes) else json.dumps(said).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + tensors)
    return path


GOOD = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"{", "a header of 1 bytes in a file of 13"),
        (b"[1]", "a header that is no JSON"),
        (b"[" * 100_000, "a header that is no JSON"),
        ({"a": {**GOOD, "dtype": "F33"}}, "a: expected a format, a shape and a place that fit each other"),
        ({"a": {**GOOD, "shape": [2]}}, "a: expected a format"),
        ({"a": {**GOOD, "shape": [True]}}, "a: expected a format"),
        ({"a": {**GOOD, "shape": [1] * 9}}, "a: expected a format"),
        ({"a": {**GOOD, "shape": [-1], "data_offsets": [4, 0]}}, "a: expected a format"),
        ({"a": {**GOOD, "shape": [1 << 60]}}, "a: expected a format"),
        ({"a": [1]}, "a: expected a format"),
        ({"a": {**GOOD, "data_offsets": [4, 8]}}, "a lies at byte"),
        ({"a": GOOD, "b": GOOD}, "b lies at byte"),
        ({}, "bytes: expected"),
    ],
)
def test_what_contradicts_itself_is_refused(said: object, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        read_layout(write(tmp_path / "a.safetensors", said))


def test_a_file_that_is_cut_or_longer_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": GOOD})
    assert load_file(path)["a"].tolist() == [0.0]
    whole = path.read_bytes()
    for content in (whole[:-1], whole + b"\0", whole[:5], b"", (1 << 63).to_bytes(8, "little")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="expected"):
            read_layout(path)
