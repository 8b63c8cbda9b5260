"""Paths as users give them."""

from pathlib import Path

from vjepa_mlflow.errors import UserError


def expand(option: str, path: str) -> Path:
    """A path with the folder in place of `~` or `~name`.

    Raises:
        UserError: there is no such user; names the option.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{option}={path}: its ~ stands for no folder ({error}): expected a path") from None
