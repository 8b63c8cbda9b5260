from collections.abc import Callable
from pathlib import Path

import pytest

import vjepa_mlflow
from vjepa_mlflow import Recipe, UserError
from vjepa_mlflow.cli import main
from vjepa_mlflow.runtime.ranks import Share, launched_share, local_rank, local_world_size


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
    monkeypatch.setenv("RANK", "")
    assert launched_share() == Share(0, 1)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert launched_share() == Share(3, 4)


@pytest.mark.parametrize(
    ("rank", "world_size", "said"),
    [
        ("0", "two", "WORLD_SIZE=two: expected a whole number of at least 1, as torchrun gives it"),
        ("0", "0", "WORLD_SIZE=0: expected a whole number of at least 1, as torchrun gives it"),
        ("-1", "2", "RANK=-1: expected a whole number of at least 0, as torchrun gives it"),
        ("2", "2", "RANK=2, WORLD_SIZE=2: expected a rank from 0 to 1, another one in each process"),
        ("1", "", "RANK=1, WORLD_SIZE=1: expected a rank from 0 to 0, another one in each process"),
        ("", "2", "RANK=, WORLD_SIZE=2: expected a rank from 0 to 1, another one in each process"),
    ],
)
def test_a_share_that_nobody_has_is_refused(
    rank: str, world_size: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world_size)
    with pytest.raises(UserError) as refused:
        vjepa_mlflow.extract(Recipe(data="/nowhere"))
    assert str(refused.value) == said


@pytest.mark.parametrize(("name", "read"), [("LOCAL_RANK", local_rank), ("LOCAL_WORLD_SIZE", local_world_size)])
def test_a_number_on_this_machine_that_is_none_is_refused(
    name: str, read: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1.5")
    with pytest.raises(UserError, match=f"^{name}=1.5: expected a whole number"):
        read()


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--data", "/nowhere"],
        ["sweep", "no.yaml", "--data", "/nowhere"],
        ["evaluate", "no-model", "--data", "/nowhere"],
        ["predict", "no-model", "/nowhere"],
        ["predict", "no-model", "/nowhere", "-o", "rows.csv"],
        ["promote", "no-model", "--alias", "champion"],
        ["upload", "/nowhere"],
    ],
)
def test_what_is_not_divided_is_refused_under_torchrun(
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"Error: WORLD_SIZE=2: under torchrun {arguments[0]} would be done 2 times: expected one")
    assert "torchrun ... -m vjepa_mlflow extract" in error
    assert list(tmp_path.iterdir()) == []
