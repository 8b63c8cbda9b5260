"""Videos, a cache, a tracking store and a database server of the tests' own."""

import gc
import os
import pickle
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vjepa_mlflow import data

if TYPE_CHECKING:
    from browser import Browser

SLOW_FILES = (
    "test_tracking_server.py",
    "test_sweep.py",
    "test_evaluate.py",
    "test_resume.py",
    "test_serving.py",
    "test_spark.py",
    "test_same_everywhere.py",
    "test_extract.py",
    "test_queue.py",
    "test_seen.py",
    "test_predict.py",
    "test_project.py",
    "test_train.py",
    "test_workers.py",
    "test_decoders.py",
    "test_disk_full.py",
    "test_flavor.py",
    "test_memory.py",
)
"""The slowest first, so that at the end no process waits long for the other."""


def pytest_configure(config: pytest.Config) -> None:
    """With tests in several processes, one thread each: more of them would only wait for each other.

    What takes seconds to import is imported by the fixtures that need it: pytest-xdist's own process needs none of it.
    """
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:  # as in the background, under nohup, and in all started there
            signal.signal(number, handler)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # it would look for a network
    gc.disable()  # until all tests are imported
    config.option.loadscopereorder = False  # pytest-xdist would begin with the files that have most tests
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"  # which PyTorch reads when it is imported


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


def pytest_collection_finish() -> None:
    """What has been imported stays: each search for garbage would go through all of it."""
    gc.freeze()
    gc.enable()


MOTIONS = ("left_clockwise", "right_clockwise")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the session's own, so that the demo set is drawn by the code under test; pytest-xdist's share one."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VJEPA_MLFLOW_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def messages() -> Iterator[None]:
    """Messages are shown, as they are while a command is at work."""
    from vjepa_mlflow.terminal.messages import messages_shown

    with messages_shown():
        yield


@pytest.fixture(scope="session", autouse=True)
def held_workers() -> Iterator[None]:
    """Worker processes for all tests, since starting them takes seconds."""
    from vjepa_mlflow.runtime.workers import worker_processes

    with worker_processes():
        yield


@pytest.fixture(scope="session", autouse=True)
def held_painters() -> Iterator[None]:
    """What draws is forked from the same servers in all tests, since they import for seconds what it needs."""
    from vjepa_mlflow.evaluation import painter
    from vjepa_mlflow.runtime.processes import ForkServer

    servers: dict[tuple[str, ...], ForkServer] = {}

    class Held:
        def __init__(self, *modules: str, **variables: str) -> None:
            if modules not in servers:
                servers[modules] = ForkServer(*modules, **variables)
            self.start = servers[modules].start

        def close(self) -> None:
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(painter, "ForkServer", Held)
        yield
        for server in servers.values():
            server.close()


@pytest.fixture(scope="session")
def demo_set(cache: Path) -> Path:
    """The demo set's folder, drawn once for all processes of the session; `.ci/run` draws it with all its videos."""
    from filelock import FileLock

    from vjepa_mlflow.data import demo

    cache.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, FileLock(cache / "demo.lock"):
        patch.setattr(demo, "CLIPS_PER_CLASS", {"train": 8, "val": 2, "test": 12})
        return demo.folder()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the tables that MLflow makes, which takes it a second."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@contextmanager
def tracked_in(folder: Path, empty_store: Path) -> Iterator[str]:
    """Makes a folder the working directory in the block, and an SQLite file in it the tracking store."""
    import mlflow
    from helpers import copy_store

    uri = copy_store(empty_store, folder)
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        yield uri
        while mlflow.active_run():
            mlflow.end_run()
        mlflow.set_tracking_uri(before)


@pytest.fixture
def tracking(tmp_path: Path, empty_store: Path) -> Iterator[str]:
    """A SQLite tracking store in a folder of the test's own, which is the working directory as well."""
    folder = tmp_path / "tracking"
    folder.mkdir()
    with tracked_in(folder, empty_store) as uri:
        yield uri


@pytest.fixture(scope="module")
def module_tracking(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Path]:
    """Like `tracking`, for what all tests of a module look at."""
    folder = tmp_path_factory.mktemp("tracking")
    with tracked_in(folder, empty_store):
        yield folder


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Figures are white, for tests that do not look at them: drawing was a tenth of what all tests did.

    There is no process that draws, but what it would be sent is pickled, and each kind of figure is made once.
    """
    from matplotlib.figure import Figure

    from vjepa_mlflow.evaluation import painter
    from vjepa_mlflow.evaluation.figures import draw

    class Killed:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def start(self, _: object, figure: partial) -> None:
            pickle.dumps(figure)
            raise EOFError

        def close(self) -> None:
            pass

    white, made = draw(Figure(figsize=(1, 1))), set()

    def make_once(figure: partial) -> bytes:
        if figure.func not in made:
            made.add(figure.func)
            figure()
        return white

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "draw", lambda *_: None)  # of what is not drawn by a painter
        patch.setattr(painter, "ForkServer", Killed)
        patch.setattr(painter, "_draw", make_once)
        yield


@pytest.fixture(scope="session")
def clip() -> bytes:
    """A real MP4 file's content."""
    return data.draw_clip("left_clockwise", seed=1)


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Split/class folders: two classes, 5 train, 2 val and 2 test clips each."""
    root = tmp_path_factory.mktemp("small")
    for number, split in enumerate(["train"] * 5 + ["val"] * 2 + ["test"] * 2):
        for motion in MOTIONS:
            path = root / split / motion / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.draw_clip(motion, seed=100 + number))
    return root


@pytest.fixture(scope="session")
def vit_large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The architecture of the card's base checkpoint, with random weights. For tests on a GPU."""
    from benchmarks.common import build_random_vitl

    folder = tmp_path_factory.mktemp("vit-large")
    build_random_vitl(folder)
    return folder


@pytest.fixture(scope="session")
def vit_short(vit_large: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`vit_large` with few of its layers: the same kernels on the same shapes, but less to load, to keep and to log."""
    import torch
    from transformers import VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2VideoProcessor

    folder = tmp_path_factory.mktemp("vit-short")
    layers = {"num_hidden_layers": 2, "num_pooler_layers": 1, "pred_num_hidden_layers": 1}
    torch.manual_seed(0)
    VJEPA2ForVideoClassification(VJEPA2Config.from_pretrained(vit_large, **layers)).save_pretrained(folder)
    VJEPA2VideoProcessor.from_pretrained(vit_large).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A real Chromium. Skips where it is not installed. While it is there, an event loop runs in this thread."""
    from browser import browser_visits

    with browser_visits() as started:
        yield started


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """Makes a new database on a PostgreSQL server, and returns its URL. Skips where the server is not installed."""
    import sqlalchemy
    from postgresql import find_programs, postgresql_server

    if find_programs() is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")

    with tempfile.TemporaryDirectory() as folder, postgresql_server(Path(folder)) as address:

        def create() -> str:
            name = f"test_{uuid.uuid4().hex}"
            engine = sqlalchemy.create_engine(address, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
            engine.dispose()
            return str(sqlalchemy.make_url(address).set(database=name).render_as_string(hide_password=False))

        yield create
