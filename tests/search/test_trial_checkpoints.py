from pathlib import Path

import pytest

from vjepa_mlflow.search.trial_checkpoints import checkpoint_path, forget_checkpoints


def test_what_may_go_on_is_kept_and_the_rest_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path))
    paths = [checkpoint_path("one sweep", number) for number in (1, 2, 11)]
    other = checkpoint_path("another", 1)
    for path in (*paths, other, paths[0].with_name("partial.tmp")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    forget_checkpoints("one sweep", but=[1])
    assert list(paths[0].parent.iterdir()) == [paths[0]]
    forget_checkpoints("one sweep", but=[])
    assert not paths[0].parent.exists()
    assert other.exists()
    forget_checkpoints("another", but=[])
    assert not other.parent.parent.exists()
    forget_checkpoints("another", but=[])  # there is none
