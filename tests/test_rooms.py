"""The rooms, as CONTRIBUTING.md lists them: each imports from those below it alone, and no module imports itself."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter

import pytest
from helpers import REPOSITORY

PACKAGE = REPOSITORY / "vjepa_mlflow"
MODULES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
TABLE = (REPOSITORY / "CONTRIBUTING.md").read_text().partition("| room |")[2].partition("\n\n")[0]
ROOMS = [
    name.removesuffix(".py").removesuffix("/") for name in re.findall(r"`([\w./]+)`", re.sub(r" \| .*", "", TABLE))
]


def room_of(module: str) -> str:
    """The folder of a module, or its own name where it stands beside the folders."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(module: str) -> Iterator[str]:
    """The modules that one imports, wherever it does; of a name that a room's face has, the one that it is from."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield inner if inner in MODULES else FACES.get(node.module, {}).get(name.name, node.module)


FACES: dict[str, dict[str, str]] = {}
for face in [module for module, path in MODULES.items() if path.name == "__init__.py"]:
    for node in ast.walk(ast.parse(MODULES[face].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            FACES.setdefault(face, {}).update({name.name: node.module for name in node.names})


def test_the_table_has_all_rooms() -> None:
    assert len(ROOMS) == len(set(ROOMS))
    assert {room_of(module) for module in MODULES} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_those_below_it_alone(room: str) -> None:
    above = ROOMS[: ROOMS.index(room)]
    modules = [module for module in MODULES if room_of(module) == room]
    wrong = [f"{module} imports {one}" for module in modules for one in imports(module) if room_of(one) in above]
    assert wrong == []


def test_no_module_imports_what_imports_it() -> None:
    inner = [module for module, path in MODULES.items() if path.name != "__init__.py"]
    order = TopologicalSorter({module: [one for one in imports(module) if one in inner] for module in inner})
    order.prepare()  # which names a circle
