import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import environment
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from vjepa_mlflow import UserError
from vjepa_mlflow.features.contents import choose_old, list_contents, remove
from vjepa_mlflow.features.names import FeatureSpace
from vjepa_mlflow.features.store import IDENTITY, FeatureStore
from vjepa_mlflow.files.temporary import DAY, PREFIX, is_held

SPACE = FeatureSpace(
    "backbone", "processor", num_frames=16, stride=4, frames_per_second=0.0, precision="fp32", form="transformers"
)
NAMES = [f"{number:064x}" for number in range(12)]


@pytest.fixture
def store(own_cache: Path) -> FeatureStore:
    return FeatureStore(SPACE)


def features(number: int = 0) -> torch.Tensor:
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(number))


def fill(store: FeatureStore) -> list[Path]:
    for number, name in enumerate(NAMES):
        store.write(name, features(number))
    store.finish()
    return sorted(store.folder.rglob("*.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_written_is_read(store: FeatureStore, dtype: torch.dtype) -> None:
    assert NAMES[0] not in store
    store.write(NAMES[0], features().to(dtype))
    store.finish()
    assert NAMES[0] in store
    found = store.read(NAMES[0])
    assert found is not None
    assert found.dtype == dtype
    assert torch.equal(found, features().to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_file_is_what_safetensors_would_write(store: FeatureStore, dtype: torch.dtype) -> None:
    store.write(NAMES[0], features().to(dtype))
    store.finish()
    (file,) = store.folder.rglob("*.safetensors")
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert list(metadata) == [IDENTITY]
    assert metadata[IDENTITY].startswith(NAMES[0])
    assert file.read_bytes() == save({"features": features().to(dtype)}, metadata)


def test_a_part_of_a_batch_is_stored_alone(store: FeatureStore) -> None:
    batch = torch.stack([features(number) for number in range(4)])
    store.write(NAMES[0], batch[2])
    store.finish()
    (file,) = store.folder.rglob("*.safetensors")
    assert file.stat().st_size < 2 * batch[2].nbytes + 400
    assert torch.equal(load_file(file)["features"], batch[2])


def damage_truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def damage_empty(file: Path) -> None:
    file.write_bytes(b"")


def damage_flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def damage_foreign(file: Path) -> None:
    save_file({"features": features(), "more": features()}, file)


def damage_text(file: Path) -> None:
    file.write_text("not a safetensors file " * 20)


def damage_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def damage_size(file: Path) -> None:
    os.truncate(file, 1 << 42)


DAMAGES = [
    damage_pipe,
    damage_size,
    damage_truncate,
    damage_empty,
    damage_flip,
    damage_foreign,
    damage_text,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
def test_what_is_damaged_is_not_trusted_and_goes_and_is_named(
    store: FeatureStore, damage: object, capsys: pytest.CaptureFixture[str]
) -> None:
    (file, *_) = fill(store)
    damage(file)  # type: ignore[operator]
    assert store.read(NAMES[0]) is None
    assert not file.exists()
    assert store.read(NAMES[0]) is None
    assert capsys.readouterr().err.splitlines() == [
        f"{file}: was changed after it was written: it is deleted, and its clip encoded again"
    ]
    assert store.read(NAMES[1]) is not None


def test_a_folder_in_the_place_of_features_is_named_and_stays(
    store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    (file, *_) = fill(store)
    file.unlink()
    (file / "inside").mkdir(parents=True)
    assert store.read(NAMES[0]) is None
    assert NAMES[0] not in store
    store.write(NAMES[0], features())
    store.finish()
    assert (file / "inside").is_dir()
    assert capsys.readouterr().err == (
        f"{file}: is a folder where features were kept: their clip is encoded again, and not kept\n"
    )


def test_a_damaged_description_is_written_again(store: FeatureStore) -> None:
    fill(store)
    description = store.folder / "space.json"
    text = description.read_text()
    for damaged in ("", "5", text[:-3]):
        description.write_text(damaged)
        assert list_contents()[0].description == {}
        FeatureStore(SPACE)
        assert description.read_text() == text


def test_a_file_under_another_name_is_not_trusted(store: FeatureStore) -> None:
    fill(store)
    shutil.copy(store._path(NAMES[1]), store._path(NAMES[0]))
    assert store.read(NAMES[0]) is None


def test_reading_counts_as_use(store: FeatureStore) -> None:
    files = fill(store)
    for file in files:
        os.utime(file, (time.time() - 9 * DAY,) * 2)
    store.read(NAMES[3])
    (space,) = list_contents()
    assert [entry.path for entry in choose_old([space], older_than=8 * DAY, max_size=None)] != files
    assert len(choose_old([space], older_than=8 * DAY, max_size=None)) == len(files) - 1


def test_pruning_by_size_takes_the_longest_unused(store: FeatureStore) -> None:
    files = fill(store)
    for age, file in enumerate(files):
        os.utime(file, (time.time() - age * DAY,) * 2)
    contents = list_contents()
    size = files[0].stat().st_size
    chosen = choose_old(contents, older_than=None, max_size=5 * size)
    assert {entry.path for entry in chosen} == set(files[5:])
    remove(chosen)
    assert sorted(store.folder.rglob("*.safetensors")) == files[:5]
    (space,) = list_contents()
    assert space.size == 5 * size
    assert space.description["precision"] == "fp32"


def test_pruning_takes_what_killed_writers_left_and_empty_spaces(store: FeatureStore) -> None:
    files = fill(store)
    left, written = (files[0].parent / f"{PREFIX}{name}" for name in ("left", "written"))
    left.write_bytes(b"half")
    with written.open("wb") as file:
        assert is_held(file.fileno()) is False  # its writer is at it
        remove([])
        assert not left.exists()
        assert written.exists()
    remove(choose_old(list_contents(), older_than=0, max_size=0))
    assert list_contents() == []


WRITERS = """
import itertools, os, random, signal, time
import torch
from vjepa_mlflow.features.names import FeatureSpace
from vjepa_mlflow.features.store import FeatureStore

torch.set_num_threads(1)
values = [torch.randn(512, 256, generator=torch.Generator().manual_seed(number)) for number in range(12)]


def write(rounds):
    store = FeatureStore(FeatureSpace("backbone", "processor", 16, 4, 0.0, "fp32", "transformers"))
    for _ in rounds:
        for number in random.sample(range(12), 12):
            store.write(f"{number:064x}", values[number])
    store.finish()


writers = []
for seed in range(16):
    writers.append(os.fork())
    if writers[-1] == 0:
        random.seed(seed)
        write(range(2) if seed else itertools.repeat(None))  # the first one until it is killed
        os._exit(0)
time.sleep(random.uniform(0.05, 0.5))
os.kill(writers[0], signal.SIGKILL)
print(sorted(os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) for writer in writers))
"""


def test_sixteen_writers_one_of_them_killed_leave_a_store_that_verifies(store: FeatureStore) -> None:
    done = subprocess.run([sys.executable, "-c", WRITERS], env=environment(), capture_output=True, text=True)
    assert done.stdout.split() == f"{[-signal.SIGKILL] + [0] * 15}".split(), done.stderr
    for number, name in enumerate(NAMES):
        expected = torch.randn(512, 256, generator=torch.Generator().manual_seed(number))
        found = store.read(name)
        assert found is not None
        assert torch.equal(found, expected)


FULL = """
import resource, signal
import torch
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.features.names import FeatureSpace
from vjepa_mlflow.features.store import FeatureStore

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = FeatureStore(FeatureSpace("backbone", "processor", 16, 4, 0.0, "fp32", "transformers"))
store.write("00" * 32, torch.ones(10, 10))
store.finish()
try:
    for number in range(100):
        store.write(f"{number:064x}", torch.ones(512, 256))
    store.finish()
except UserError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_is_one_clear_error_and_no_corrupt_entry(store: FeatureStore) -> None:
    """A limit on file sizes stands for the full disk: writing fails in the middle of a file, as it does there."""
    done = subprocess.run([sys.executable, "-c", FULL], env=environment(), capture_output=True, text=True)
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"feature store {store.folder}: cannot be written (File too large")
    assert "cache=memory" in line
    assert done.stderr == ""
    assert [path.name for path in store.folder.rglob("*") if path.is_file()] == [
        "space.json",
        f"{'00' * 32}.safetensors",
    ]
    assert store.read("00" * 32) is not None


def test_a_folder_that_cannot_be_written_is_named(own_cache: Path) -> None:
    own_cache.mkdir()
    (own_cache / "features").write_text("a file where the folder should be")
    store = FeatureStore(SPACE)
    store.write(NAMES[0], features())
    with pytest.raises(UserError, match=r"feature store .*: cannot be written \(.*VJEPA_MLFLOW_CACHE"):
        store.finish()
