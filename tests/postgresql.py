"""A PostgreSQL server of the tests' own, from Debian's package, on loopback."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers import free_port

DEBIAN = Path("/usr/lib/postgresql")


def find_programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`; Debian does not put it in the path."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(DEBIAN.glob("*/bin"))
    return folders[-1] if folders else None


@contextmanager
def postgresql_server(folder: Path) -> Iterator[str]:
    """Runs a server until the block ends; yields the URL of its database `postgres`, to which a name can be given."""
    programs = find_programs()
    assert programs is not None
    # The server refuses to run as root, who may run it as somebody else.
    owner = {"user": "postgres", "group": "postgres", "extra_groups": ()} if os.geteuid() == 0 else {}
    if owner:
        shutil.chown(folder, "postgres", "postgres")
    port = free_port()
    data = folder / "data"

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), *arguments]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, **owner)  # type: ignore[call-overload]

    run("initdb", "-D", str(data), "-U", "tester", "-A", "trust", "--no-sync")
    options = f"-h 127.0.0.1 -p {port} -k '' -c fsync=off"
    run("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql://tester@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
