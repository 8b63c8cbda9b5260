"""Public names of a package that load their modules only once they are used."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def load_when_used(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Makes a package's `__getattr__`, as in PEP 562.

    Args:
        package: its name.
        modules: of it, without its name, each with the names that the package has from it.
    """
    homes = {name: f"{package}.{module}" for module, names in modules.items() for name in names}

    def find(name: str) -> Any:
        if name in homes:
            return getattr(importlib.import_module(homes[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find
