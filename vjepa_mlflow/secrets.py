"""Passwords, kept out of all that is printed, logged and written."""

import os
import re
from collections.abc import Iterator
from urllib.parse import quote, unquote, urlsplit, urlunsplit

MASK = "***"

LEAST_LENGTH = 6
"""Of a secret that is looked for wherever it stands: shorter ones are parts of many words."""

_IN_ADDRESS = re.compile(
    r"(?P<before>://[^\s/?#'\"@:]*:|(?<![\w/.-])[\w.%+-]+:(?=[^/]))(?P<secret>[^\s'\"]+)(?=@)",
)
"""`://user:password@host`, and the same without `://`, which is no `models:/name@alias`. A password may hold what an
address would have to escape: the last @ of the word ends it."""

_NAMED = re.compile(
    r"(?P<before>(?:password|passwd|pwd|passphrase|secret|token|sig|signature|access_?key|account_?key|api_?key)"
    r"(?:\s*=\s*|['\"]\s*:\s*(?=['\"])))(?P<secret>'[^']*'|\"[^\"]*\"|[^\s&;,'\"]+)",
    re.IGNORECASE,
)
"""As in the query of an address, PostgreSQL's keywords, Azure's connection strings, and what Python prints of them."""

_VARIABLE = re.compile(r"(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|ACCESS_KEY|API_KEY|ACCOUNT_KEY|CONNECTION_STRING)$")
"""The names of environment variables that hold secrets, such as MLflow's, PostgreSQL's and those of artifact stores."""


def without_secrets(text: str) -> str:
    """A text with `***` for each password in it: in addresses, behind names such as `password=`, and those of this
    process's environment wherever they stand.
    """
    text = _IN_ADDRESS.sub(rf"\g<before>{MASK}", text)
    text = _NAMED.sub(rf"\g<before>{MASK}", text)
    for secret in sorted(_known_secrets(), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def without_password(address: str) -> str:
    """An address, such as a tracking URI, that says where and not by what right; a database's user stays in it."""
    if not has_password(address):
        return address
    try:
        parts = urlsplit(address)
        user, _, host = parts.netloc.rpartition("@")
    except ValueError:
        return without_secrets(address)
    user = "" if parts.scheme in ("http", "https") else user.partition(":")[0]
    bare = urlunsplit(parts._replace(netloc=f"{user}@{host}" if user else host))
    return without_secrets(bare)


def has_password(address: str) -> bool:
    """Whether a password stands in an address."""
    return without_secrets(address) != address


def move_password_to_environment() -> None:
    """Takes user and password out of `MLFLOW_TRACKING_URI`, where there are any, to MLflow's own variables for them.

    MLflow prints and notes the address as it is.
    """
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        try:
            parts = urlsplit(os.environ.get(variable, ""))
            user, password = parts.username, parts.password
        except ValueError:
            continue
        if parts.scheme in ("http", "https") and user and password:
            os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(user)
            os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(password)
            os.environ[variable] = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _known_secrets() -> Iterator[str]:
    for name, value in os.environ.items():
        for secret in _secrets_in(name, value):
            if len(secret) >= LEAST_LENGTH:
                yield from {secret, unquote(secret), quote(secret, safe="")}


def _secrets_in(name: str, value: str) -> Iterator[str]:
    if _VARIABLE.search(name):
        yield value
    for pattern in (_IN_ADDRESS, _NAMED):
        for found in pattern.finditer(value):
            yield found["secret"]
