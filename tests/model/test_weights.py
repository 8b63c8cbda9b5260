"""Weights as files have them: what is read of them, and what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vjepa_mlflow import UserError
from vjepa_mlflow.files.digest import sha256
from vjepa_mlflow.model.weights import (
    check_finite,
    digest_weights,
    format_name,
    open_weights,
    read_weight,
    read_weights,
)

NAME = "vjepa2.encoder.layernorm.weight"


def write(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, path)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_of_any_format_are_read_in_fp32(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.tensor([[1.5, -2.0, 0.25]], dtype=dtype)
    stored = open_weights("it", [write(tmp_path / "a", {"odd": torch.zeros(1, dtype=torch.uint8), NAME: values})])
    for read in (read_weights(stored, [NAME])[NAME], read_weight(stored, NAME)):
        assert read.dtype == torch.float32
        assert torch.equal(read, values.float())


def test_those_that_are_not_asked_for_are_not_read(tmp_path: Path) -> None:
    stored = open_weights(
        "it", [write(tmp_path / "a", {NAME: torch.ones(1), "count": torch.ones(1, dtype=torch.int64)})]
    )
    assert list(read_weights(stored, [NAME])) == [NAME]
    with pytest.raises(UserError, match="it: count is of I64: expected one of"):
        read_weights(stored, ["count"])


def test_a_bare_encoder_has_the_names_of_a_whole_model(tmp_path: Path) -> None:
    stored = open_weights("it", [write(tmp_path / "a", {"encoder.layernorm.weight": torch.ones(2)})])
    assert dict(stored.shapes) == {NAME: (2,)}


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    files = [write(tmp_path / name, {NAME: torch.ones(2)}) for name in ("a", "b")]
    with pytest.raises(UserError, match="is in a and b: expected it in one of them"):
        open_weights("it", files)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"no safetensors at all")
    with pytest.raises(UserError, match="it: cannot be loaded: a: "):
        open_weights("it", [tmp_path / "a"])


def test_a_file_that_is_cut_off_later_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a", {NAME: torch.ones(100)})
    stored = open_weights("it", [file])
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(UserError, match="a was cut off: expected"):
        read_weight(stored, NAME)


def test_files_have_their_digests(tmp_path: Path) -> None:
    file = write(tmp_path / "a", {NAME: torch.ones(100)})
    assert digest_weights(open_weights("it", [file])) == {"a": sha256([file])}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    check_finite("it", {"empty": torch.empty(0), "good": torch.ones(2)})
    with pytest.raises(UserError, match="it: bad holds values that are no numbers"):
        check_finite("it", {"good": torch.ones(2), "bad": torch.tensor([1.0, value])})


def test_formats_have_the_names_of_safetensors() -> None:
    assert format_name("it", "one", torch.bfloat16) == "BF16"
    with pytest.raises(UserError, match=r"it: one is of torch.int64: expected one of torch"):
        format_name("it", "one", torch.int64)
