import hashlib
from pathlib import Path

import pytest

from vjepa_mlflow.files import digest
from vjepa_mlflow.files.digest import sha256, sha256_of, sha256_of_text, sha256_with_parts


def test_contents_and_files_have_the_digest_of_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "BLOCK", 3)
    contents = {"a": b"0123456789", "b": b"", "c": b"abc"}
    files = [tmp_path / name for name in contents]
    for path in files:
        path.write_bytes(contents[path.name])
    whole = hashlib.sha256(b"0123456789abc").hexdigest()
    parts = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    assert sha256_of(*contents.values()) == sha256(files) == whole
    assert sha256_with_parts(files) == (whole, parts)
    assert sha256_with_parts(files[:1]) == (parts["a"], {"a": parts["a"]})
    with pytest.raises(FileNotFoundError):
        sha256([tmp_path / "none"])


def test_a_text_may_be_a_name_that_is_no_proper_text() -> None:
    name = b"a\xff.mp4"
    assert sha256_of_text(name.decode(errors="surrogateescape")) == hashlib.sha256(name).hexdigest()
