import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import environment

WORK = """
import logging, os, subprocess, sys
from pathlib import Path
import click
from tqdm import tqdm
from vjepa_mlflow.terminal.outputs import outlast_readers

outlast_readers()
first = open("first", "w")
logging.basicConfig()
for number in tqdm(range(3), disable=False):
    print("a line", flush=True)
    print("a line", file=sys.stderr)
    tqdm.write("a line")
    click.echo("a line")
    logging.getLogger().error("a line")
    subprocess.run([sys.executable, "-c", "import sys; print(1, flush=True); print(1, file=sys.stderr)"], check=True)
print("a line that is written at the end")
os.write(1, b"a line")
os.write(2, b"a line")
Path("done").touch()
"""
"""Prints in all the ways there are."""


def run(program: str, redirection: str, folder: Path, **changes: str) -> int:
    """The exit status of a program whose outputs a shell redirects; `GONE` stands for a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    command = f"{shlex.join([sys.executable, '-c', program])} {redirection.replace('GONE', f'&{writing}')}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment(**changes), pass_fds=[writing], stdin=subprocess.DEVNULL
    )
    os.close(writing)
    return done.returncode


@pytest.mark.parametrize(
    "redirection",
    [">GONE 2>err", ">out 2>GONE", ">GONE 2>GONE", ">/dev/full 2>/dev/full", ">&- 2>err", ">out 2>&-", "<&- >&- 2>&-"],
)
def test_work_goes_on_where_nobody_takes_what_it_prints(redirection: str, tmp_path: Path) -> None:
    assert run(WORK, redirection, tmp_path) == 0
    assert (tmp_path / "done").exists()
    assert (tmp_path / "first").read_text() == ""  # which has got no number of an output that was closed
    if (tmp_path / "out").exists():
        assert (tmp_path / "out").read_text().count("a line") == 11
    if (tmp_path / "err").exists():
        assert (tmp_path / "err").read_text().count("a line") == 7
        assert "Error" not in (tmp_path / "err").read_text()


def test_work_goes_on_where_outputs_are_not_buffered(tmp_path: Path) -> None:
    assert run(WORK, ">GONE 2>GONE", tmp_path, PYTHONUNBUFFERED="1") == 0


@pytest.mark.parametrize(
    ("redirection", "status", "said"),
    [
        (">GONE", 141, ""),
        (">/dev/full", 2, "Error: stdout: No space left on device: expected it to take the result\n"),
        (">&-", 0, ""),  # it was not wanted
    ],
)
def test_a_command_whose_result_nobody_takes_fails_in_a_line_at_most(
    redirection: str, status: int, said: str, tmp_path: Path
) -> None:
    features = "from vjepa_mlflow.cli import main; main(['features'])"
    found = run(features, f"{redirection} 2>err", tmp_path, VJEPA_MLFLOW_CACHE=str(tmp_path / "cache"))
    assert found == status
    assert (tmp_path / "err").read_text() == said


ENDLESS = """
from vjepa_mlflow.terminal.outputs import outlast_readers, print_result

outlast_readers()
while True:
    print_result("a line")
"""


def test_results_come_one_by_one_and_end_with_their_reader(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{shlex.join([sys.executable, '-c', ENDLESS])} | head -2; exit ${{PIPESTATUS[0]}}"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("a line\na line\n", "", 141)
