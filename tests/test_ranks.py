import pytest

from vjepa_mlflow.ranks import Share, launched_share


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_shares_are_disjoint_and_complete(world_size: int) -> None:
    items = list(range(20))
    shares = [Share(rank, world_size).of(items) for rank in range(world_size)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_each_begins_with_its_own_and_sees_all(world_size: int) -> None:
    for rank in range(world_size):
        share = Share(rank, world_size)
        order = share.first(20)
        assert sorted(order) == list(range(20))
        own = list(share.of(list(range(20))))
        assert order[: len(own)] == own


def test_the_share_is_the_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert launched_share() == Share(0, 1)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert launched_share() == Share(3, 4)
