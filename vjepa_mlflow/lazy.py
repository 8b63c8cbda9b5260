"""Names of a package that load their modules only once they are used."""

import ast
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any


def load_when_used(package: str) -> Callable[[str], Any]:
    """Makes a package's `__getattr__`, as in PEP 562.

    What names there are, and where from, is said once: by the imports under `if TYPE_CHECKING:`, which Python itself
    never runs.

    Args:
        package: its `__name__`.
    """
    source = pkgutil.get_data(package, "__init__.py")  # which may be in an archive
    assert source is not None
    homes = dict(_imports_for_type_checkers(source))

    def find(name: str) -> Any:
        if name in homes:
            return getattr(importlib.import_module(homes[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find


def _imports_for_type_checkers(source: bytes) -> Iterator[tuple[str, str]]:
    """The names that a module imports so, each with its module."""
    for block in ast.parse(source).body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            for statement in block.body:
                if isinstance(statement, ast.ImportFrom) and statement.module:
                    yield from ((name.name, statement.module) for name in statement.names)
