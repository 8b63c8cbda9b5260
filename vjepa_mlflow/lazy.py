"""Names of a package that load their modules only once they are used."""

import ast
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def load_when_used(package: str, file: str) -> Callable[[str], Any]:
    """Makes a package's `__getattr__`, as in PEP 562.

    What names there are, and where from, is said once: by the imports under `if TYPE_CHECKING:`, which Python itself
    never runs.

    Args:
        package: its `__name__`.
        file: its `__file__`.
    """
    homes = dict(_imports_for_type_checkers(file))

    def find(name: str) -> Any:
        if name in homes:
            return getattr(importlib.import_module(homes[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find


def _imports_for_type_checkers(file: str) -> Iterator[tuple[str, str]]:
    """The names that a file imports so, each with its module."""
    for block in ast.parse(Path(file).read_text(encoding="utf-8")).body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            for statement in block.body:
                if isinstance(statement, ast.ImportFrom) and statement.module:
                    yield from ((name.name, statement.module) for name in statement.names)
