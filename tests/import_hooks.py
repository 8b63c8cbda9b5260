"""What happens to a module of the package when a process of a test imports it."""

from pathlib import Path
from textwrap import indent


def write_import_hook(folder: Path, module: str, change: str) -> None:
    """Writes a `sitecustomize.py`, which Python runs at its start where the folder is in `PYTHONPATH`.

    Args:
        folder: where to.
        module: the name of the module that is to be changed.
        change: statements that are run once it has been imported; `module` is it.
    """
    (folder / "sitecustomize.py").write_text(
        f"""
import importlib.util, sys

class Hook:
    def find_spec(self, name, path, target=None):
        if name != {module!r}:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
{indent(change.strip(), " " * 12)}

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Hook())
"""
    )
