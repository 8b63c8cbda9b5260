import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from vjepa_mlflow.search.lock import one_at_a_time


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_others_of_the_same_name_wait(tmp_path: Path, database: str, request: pytest.FixtureRequest) -> None:
    create: Callable[[], str] = (
        (lambda: f"sqlite:///{tmp_path}/a.db") if database == "sqlite" else request.getfixturevalue("postgresql")
    )
    url = create()
    inside = most = 0
    guard = threading.Lock()

    def enter() -> None:
        nonlocal inside, most
        with one_at_a_time(create_engine(url), "study"):
            with guard:
                inside += 1
                most = max(most, inside)
            time.sleep(0.1)
            with guard:
                inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
