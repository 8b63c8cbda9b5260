"""What both back ends of the feature cache promise: the store on disk, and a device's memory."""

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch

from vjepa_mlflow.features.memory import FeatureMemory
from vjepa_mlflow.features.names import FeatureSpace
from vjepa_mlflow.features.store import FeatureStore

SPACE = FeatureSpace("backbone", "processor", 16, 4, 0.0, "fp32", "transformers")
NAMES = [f"{number:064x}" for number in range(3)]

BackEnd = FeatureStore | FeatureMemory

MAKERS: dict[str, Callable[[], BackEnd]] = {
    "store": lambda: FeatureStore(SPACE),
    "memory": lambda: FeatureMemory(torch.device("cpu")),
}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest, own_cache: Path) -> Callable[[], BackEnd]:
    return MAKERS[request.param]


@pytest.fixture
def back_end(make: Callable[[], BackEnd]) -> BackEnd:
    return make()


def features(number: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(number)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_written_is_there_and_read_bit_for_bit(back_end: BackEnd, dtype: torch.dtype) -> None:
    with closing(back_end):
        back_end.write(NAMES[0], features(dtype=dtype))
        assert NAMES[0] in back_end
        found = back_end.read(NAMES[0])
        assert found is not None
        assert found.dtype == dtype
        assert torch.equal(found, features(dtype=dtype))


def test_what_was_not_written_is_not_there(back_end: BackEnd) -> None:
    with closing(back_end):
        back_end.write(NAMES[0], features())
        assert NAMES[1] not in back_end
        assert back_end.read(NAMES[1]) is None


def test_each_name_has_its_own(back_end: BackEnd) -> None:
    with closing(back_end):
        for number, name in enumerate(NAMES):
            back_end.write(name, features(number))
        for number, name in enumerate(NAMES):
            assert torch.equal(back_end.read(name), features(number))  # type: ignore[arg-type]


def test_what_is_written_again_replaces_what_was(back_end: BackEnd) -> None:
    with closing(back_end):
        back_end.write(NAMES[0], features(0))
        back_end.finish()
        back_end.write(NAMES[0], features(1))
        back_end.finish()
        assert torch.equal(back_end.read(NAMES[0]), features(1))  # type: ignore[arg-type]


def test_a_batch_that_changes_later_changes_nothing(back_end: BackEnd) -> None:
    with closing(back_end):
        batch = torch.stack([features(0), features(1)])
        back_end.write(NAMES[0], batch[1])
        back_end.finish()
        batch.zero_()
        assert torch.equal(back_end.read(NAMES[0]), features(1))  # type: ignore[arg-type]


def test_after_finish_nothing_is_on_its_way(back_end: BackEnd) -> None:
    with closing(back_end):
        for number, name in enumerate(NAMES):
            back_end.write(name, features(number))
        back_end.finish()
        back_end.finish()  # nor does it matter how often that is asked
        assert all(name in back_end for name in NAMES)


def test_a_block_leaves_no_thread(make: Callable[[], BackEnd]) -> None:
    before = set(threading.enumerate())
    with make() as back_end:
        for number, name in enumerate(NAMES):
            back_end.write(name, features(number))
    assert set(threading.enumerate()) <= before


def test_a_block_that_fails_raises_its_own_error_alone(make: Callable[[], BackEnd]) -> None:
    before = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError) as raised, make() as back_end:
        write_and_fail(back_end)
    assert raised.value.__context__ is None
    assert set(threading.enumerate()) <= before


def write_and_fail(back_end: BackEnd) -> None:
    back_end.write(NAMES[0], features())
    raise ZeroDivisionError


def test_it_may_be_closed_twice(back_end: BackEnd) -> None:
    back_end.write(NAMES[0], features())
    back_end.close()
    back_end.close()


def test_a_store_that_is_closed_has_written_everything(own_cache: Path) -> None:
    with FeatureStore(SPACE) as store:
        for number, name in enumerate(NAMES):
            store.write(name, features(number))
    with FeatureStore(SPACE) as store:
        assert all(torch.equal(store.read(name), features(number)) for number, name in enumerate(NAMES))  # type: ignore[arg-type]
