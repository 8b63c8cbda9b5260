"""Which trials share a setup, and what becomes of it, with features and heads of the test's."""

import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from vjepa_mlflow import Recipe, UserError
from vjepa_mlflow.runtime.ranks import Share
from vjepa_mlflow.search import setups
from vjepa_mlflow.search.setups import TrialSetups


class Source:
    closed = 0
    error: Exception | None = None

    def __init__(self, *_: Any, **__: Any):
        pass

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        type(self).closed += 1
        if error is None:
            self.finish()

    def finish(self) -> None:
        if self.error:
            raise self.error


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> type[Source]:
    class Counted(Source):
        pass

    monkeypatch.setattr(setups.features, "FeatureSource", Counted)
    monkeypatch.setattr(setups.training, "HeadPasses", lambda *_, **__: None)
    return Counted


def open_setups(prepared: list[weakref.ref[Any]]) -> TrialSetups:
    class Prepared(SimpleNamespace):
        pass

    def prepare(_: Recipe) -> Any:
        forms = SimpleNamespace(encoder_form="", head_form="")
        head, shape = SimpleNamespace(state_dict=dict), SimpleNamespace(values=1)
        one = Prepared(backbone=None, head=head, clip_shape=shape, forms=forms)
        alive.append(sum(before() is not None for before in prepared))
        prepared.append(weakref.ref(one))
        return one

    alive: list[int] = []
    made = TrialSetups(Share(), prepare)
    made.alive = alive  # type: ignore[attr-defined]
    return made


def test_a_setup_is_shared_until_the_backbone_the_data_or_the_features_change(source: type[Source]) -> None:
    prepared: list[weakref.ref[Any]] = []
    with open_setups(prepared) as trial_setups:
        first = trial_setups.setup(Recipe())
        assert trial_setups.setup(Recipe(learning_rate=1.0, epochs=9, views=2)) is first
        del first
        for number, changes in enumerate([{"stride": 2}, {"seed": 7}, {"data": "other"}, {"model": "other"}], start=2):
            trial_setups.setup(Recipe(**changes))  # type: ignore[arg-type]
            assert len(prepared) == number
        assert source.closed == 4
        assert trial_setups.alive == [0] * 5  # type: ignore[attr-defined]
    assert source.closed == 5


def test_a_full_disk_is_told_where_somebody_counts_on_it_and_hides_no_error_and_no_result(source: type[Source]) -> None:
    source.error = UserError("the store's disk is full")
    with open_setups([]) as trial_setups:
        trial_setups.setup(Recipe())
        with pytest.raises(UserError, match="full"):
            trial_setups.finish()
    trial_setups = open_setups([])
    trial_setups.setup(Recipe())
    with pytest.raises(ZeroDivisionError), trial_setups:
        raise ZeroDivisionError
    with open_setups([]):  # of which nobody needed one
        pass
    assert source.closed == 2
