"""A compiled function: how long PyTorch's own limits are other ones, and what is done where nothing can be compiled.

Nothing is compiled here, which takes seconds: what PyTorch makes of a function is replaced.
"""

import pytest
import torch
from torch import Tensor
from torch._dynamo import config

from vjepa_mlflow.model import compiled as module
from vjepa_mlflow.model.compiled import MOST_SHAPES, Compiled


def double(hidden: Tensor, sizes: object) -> Tensor:
    return 2 * hidden


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The limits that held whenever a compiled function was called, which is compiled then if it has to be."""
    limits: list[int] = []

    def compile_nothing(function: object, **_: object) -> object:
        def call(*arguments: Tensor) -> Tensor:
            limits.append(config.recompile_limit)
            return function(*arguments)  # type: ignore[operator]

        return call

    monkeypatch.setattr(torch, "compile", compile_nothing)
    return limits


def test_the_process_compiles_by_its_own_limits_but_in_our_calls(limits: list[int]) -> None:
    before = config.recompile_limit
    double_fast = Compiled(double)
    assert config.recompile_limit == before
    for size in (1, 2, 2):
        assert torch.equal(double_fast(torch.ones(size), "sizes"), torch.full((size,), 2.0))
        assert config.recompile_limit == before
    assert limits == [MOST_SHAPES] * 3


def test_a_limit_that_is_higher_already_stays(limits: list[int]) -> None:
    with config.patch(recompile_limit=2 * MOST_SHAPES):
        Compiled(double)(torch.ones(1), "sizes")
    assert limits == [2 * MOST_SHAPES]


def test_what_cannot_be_compiled_is_called_as_it_is_and_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []

    def fail(*_: object) -> Tensor:
        calls.append(1)
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    double_slowly = Compiled(double)
    for _ in range(3):
        assert torch.equal(double_slowly(torch.ones(1), "sizes"), torch.tensor([2.0]))
    assert len(calls) == 2  # once more without what was compiled before
    assert capsys.readouterr().err.count("Not compiled, and so slower: no C compiler") == 1


def test_where_memory_runs_out_it_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(*_: object) -> Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch, "compile", lambda *_, **__: run_out)
    with pytest.raises(torch.OutOfMemoryError):
        Compiled(double)(torch.ones(1), "sizes")


def test_a_function_has_one_compiled_form(limits: list[int]) -> None:
    assert module.compiled(double) is module.compiled(double)
