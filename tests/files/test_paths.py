import os
from pathlib import Path

import pytest

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files import paths
from vjepa_mlflow.files.paths import check_local, expand, home, is_file, is_folder, is_link, is_there, shortened


def test_a_path_is_absolute_and_has_a_folder_in_place_of_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/anna")
    assert expand("data", "clips/a") == tmp_path / "clips" / "a"
    assert expand("data", "~/clips") == Path("/home/anna/clips")
    with pytest.raises(UserError, match=r"^data=~nobody-of-this-name/a: its ~ stands for no folder"):
        expand("data", "~nobody-of-this-name/a")


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(UserError, match=rf"^HOME is not set, and user {os.geteuid()} has no home folder"):
        home()


@pytest.mark.parametrize("address", ["s3://bucket/clips", "https://host/a.csv", "gs:/bucket", "file:///clips"])
def test_an_address_is_refused_unless_such_a_folder_is_there(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^data=.*: an address: expected a path on this machine"):
        check_local("data", address)
    Path(address).mkdir(parents=True)
    check_local("data", address)


@pytest.mark.parametrize("path", ["clips", "/clips", "c:/clips", "a:b", "a b://c"])
def test_a_path_is_no_address(path: str) -> None:
    check_local("data", path)


def test_what_no_file_system_takes_is_nothing(tmp_path: Path) -> None:
    for path in (Path("a\0b"), tmp_path / ("a" * 5000), tmp_path / "loop" / "a"):
        if path.parent.name == "loop":
            path.parent.symlink_to("loop")
        for holds in (is_there, is_file, is_folder, is_link):
            assert holds(path) is False
    assert is_link(tmp_path / "loop")
    assert is_folder(tmp_path)


@pytest.mark.parametrize("name", [b"clip.mp4", "Übung".encode(), b"\xff\xfe"])
def test_a_name_is_the_same_text_and_comes_back(name: bytes) -> None:
    text = paths.text_of(os.fsdecode(name))
    assert text == name.decode(errors="surrogateescape")
    assert os.fsencode(paths.name_of(text)) == name


def test_a_long_text_keeps_its_ends() -> None:
    assert shortened("a" * 120) == "a" * 120
    assert shortened("a" * 100 + "b" * 100) == "a" * 60 + "..." + "b" * 60
