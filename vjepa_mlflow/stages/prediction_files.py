"""Files of predictions that grow row by row, and go on where they stopped."""

import csv
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from vjepa_mlflow.errors import DENIED, FULL, UserError, expected, one_line
from vjepa_mlflow.files.cache import write_atomically
from vjepa_mlflow.files.reading import NotAFileError, open_regular
from vjepa_mlflow.files.temporary import PREFIX
from vjepa_mlflow.terminal.columns import csv_row

PART_ROWS = 10_000
PART_SECONDS = 30.0
"""That rows wait at most for others of their part of a Parquet file. Whoever is killed loses them, and predicts them
again."""


class PredictionRow(TypedDict):
    """A file's prediction.

    `warning` says what is wrong with a video all the same, `error` why there is no prediction; both are usually empty.
    `model` is the logged model's id, and `num_clips` over how many clips of the video it averaged.
    """

    path: str
    label: str
    score: float | None
    warning: str
    error: str
    model: str
    num_clips: int


COLUMNS = list(PredictionRow.__annotations__)

FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""What makes a cell a formula to a spreadsheet, where it begins with it."""


def path_in_row(path: Path) -> str:
    """A path in characters that any file of predictions can hold, and that is no formula: names may be anything."""
    return _no_formula(os.fsencode(path).decode(errors="backslashreplace"))


def _no_formula(path: str) -> str:
    """The same file's path. Older files of predictions have it as it was given."""
    return f"./{path}" if path.startswith(FORMULAS) else path


class PredictionFile:
    """Rows that are there, and more of them.

    Args:
        output: a `.csv` file, or a `.parquet` folder, which tools read like a file; new, or begun before, in which case
            a row that was cut off is dropped.
        model: whose predictions it must hold.
        num_clips: of which they must be averages.

    Attributes:
        paths: of the rows that it held when it was opened.

    Raises:
        UserError: the file cannot be written, another process writes it, or it holds something else.
    """

    def __init__(self, output: Path, *, model: str, num_clips: int):
        if output.suffix not in _KINDS:
            raise UserError(f"{output}: expected a name that ends in {' or '.join(_KINDS)}")
        self._output = output
        with self._writing():
            self._rows = _KINDS[output.suffix](output)
            try:
                self.paths = set(self._read_paths(model, str(num_clips)))
            except BaseException:
                self._rows.close()
                raise

    def _read_paths(self, model: str, num_clips: str) -> Iterator[str]:
        for row in self._rows.read():
            if (row["model"], str(row["num_clips"])) != (model, num_clips):
                raise UserError(
                    f"{self._output}: holds predictions of model {row['model']} over {row['num_clips']} clips of each "
                    f"video: expected {model} over {num_clips}, or no such file"
                )
            yield _no_formula(row["path"])

    def append(self, row: PredictionRow) -> None:
        with self._writing():
            self._rows.append(row)

    def close(self) -> None:
        with self._writing():
            self._rows.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            raise UserError(f"{self._output}: another process writes to it: expected to be the only one") from None
        except OSError as error:
            needed = expected(error) if error.errno in DENIED | FULL else "a folder that exists"
            raise UserError(f"{self._output}: cannot be written ({error.strerror}): expected {needed}") from error


class _CsvRows:
    """A row is one write, so that none is ever in the file in part, but where the machine fails."""

    def __init__(self, output: Path):
        self._output = output
        descriptor = os.open(output, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)  # a pipe is not waited for
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotAFileError
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        _lock(self._file.fileno())

    def read(self) -> Iterator[dict[str, str]]:
        end = 0
        with self._output.open("rb") as file:
            for number, record in enumerate(_complete_records(file), start=1):
                values = _values(record)
                if len(values) != len(COLUMNS) or (number == 1 and values != COLUMNS):
                    raise UserError(
                        f"{self._output}, row {number}: expected the columns {','.join(COLUMNS)}, or no such file"
                    )
                if number > 1:
                    yield dict(zip(COLUMNS, values, strict=True))
                end += len(record)
        self._file.truncate(end)
        self._file.seek(end)
        if not end:
            self._write(COLUMNS)

    def append(self, row: PredictionRow) -> None:
        self._write(row.values())

    def _write(self, values: Iterable[object]) -> None:
        self._file.write(csv_row(values).encode(errors="backslashreplace"))

    def close(self) -> None:
        self._file.close()


def _values(record: bytes) -> list[str]:
    """A record's fields; none where it is not one. Older files have carriage returns in names without quotes."""
    try:
        text = record.decode()
        stand_in = next(one for one in map(chr, range(0xE000, 0xF900)) if one not in text)  # of those that mean nothing
        (values,) = csv.reader([text.replace("\r", stand_in)])
    except (ValueError, csv.Error, StopIteration):
        return []
    return [value.replace(stand_in, "\r") for value in values]


def _complete_records(file: Iterable[bytes]) -> Iterator[bytes]:
    """Records up to the last one that is whole. A name may hold a line break, and stands in quotes then."""
    record = b""
    for line in file:
        record += line
        if record.endswith(b"\n") and record.count(b'"') % 2 == 0:
            yield record
            record = b""


class _ParquetRows:
    """A folder of parts, each written at once, since a Parquet file cannot grow."""

    def __init__(self, output: Path):
        output.mkdir(exist_ok=True)
        self._folder = output
        self._lock = os.open(output, os.O_RDONLY)
        _lock(self._lock)
        for leftover in output.glob(f"{PREFIX}*"):
            leftover.unlink()
        self._waiting: list[PredictionRow] = []
        self._written = time.monotonic()

    def read(self) -> Iterator[dict[str, str]]:
        import pyarrow
        from pyarrow import parquet

        for part in self._parts():
            try:
                with open_regular(part) as file:
                    table = parquet.ParquetFile(file).read(["path", "model", "num_clips"])
            except (pyarrow.ArrowException, OSError) as error:
                raise UserError(f"{part}: {one_line(error)}: expected a part of predictions") from error
            yield from table.to_pylist()

    def append(self, row: PredictionRow) -> None:
        self._waiting.append(row)
        if len(self._waiting) >= PART_ROWS or time.monotonic() - self._written >= PART_SECONDS:
            self._write()

    def _write(self) -> None:
        from pyarrow import BufferOutputStream, Table, float64, int64, parquet, schema, string

        types = {"score": float64(), "num_clips": int64()}
        table = Table.from_pylist(self._waiting, schema([(name, types.get(name, string())) for name in COLUMNS]))
        content = BufferOutputStream()
        parquet.write_table(table, content)
        number = max((int(part.stem.removeprefix("part-")) for part in self._parts()), default=0) + 1
        write_atomically(self._folder / f"part-{number:06}.parquet", memoryview(content.getvalue()))
        self._waiting = []
        self._written = time.monotonic()

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("part-*.parquet"))

    def close(self) -> None:
        try:
            if self._waiting:
                self._write()
        finally:
            os.close(self._lock)


def _lock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_KINDS: dict[str, type[_CsvRows] | type[_ParquetRows]] = {".csv": _CsvRows, ".parquet": _ParquetRows}
