"""Passwords, kept out of all that is printed, logged and written."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from urllib.parse import quote, unquote, urlsplit, urlunsplit

MASK = "***"

LEAST_LENGTH = 6
"""Of a secret that is looked for wherever it stands: shorter ones are parts of many words."""

# Lengths are bounded: a server's page may have a hundred thousand characters without a space.
_IN_ADDRESS = re.compile(r"(?P<before>://[^\s/?#@:]{0,256}:)(?P<secret>\S{1,512})(?=@)")
"""`://user:password@host`. A password may hold what an address would have to escape: the last @ of the word ends it."""

_HTTP_USER = re.compile(r"(?P<before>https?://)(?P<secret>[^\s/?#@:'\"]{1,256})(?=@)", re.IGNORECASE)
"""A token that stands alone before the host."""

_NAMED = re.compile(
    r"(?P<before>(?:password|passwd|pwd|passphrase|secret|token|sig|x-amz-signature|(?:access|account|secret|api)_?key)"
    r"(?:\s{0,8}=\s{0,8}|['\"]\s{0,8}:\s{0,8}(?=b?['\"])))(?P<secret>b?'[^']{4,512}'|b?\"[^\"]{4,512}\"|[^\s&;,]{4,512})",
    re.IGNORECASE,
)
"""As in the query of an address, PostgreSQL's keywords, Azure's connection strings, and what Python prints of them."""

_HEADER = re.compile(
    r"(?P<before>authorization['\"]?\s{0,8}[:=]\s{0,8}b?['\"]?(?:bearer|basic)\s{1,8})(?P<secret>[^\s'\"]{1,512})",
    re.IGNORECASE,
)

_PATTERNS = (_IN_ADDRESS, _HTTP_USER, _NAMED, _HEADER)

_VARIABLE = re.compile(r"(PASSWORD|PASSWD|PASSPHRASE|_PWD|_PASS|SECRET|TOKEN|_KEY|_PAT|_SAS|CONNECTION_STRING)$")
"""The names of environment variables that hold secrets, such as MLflow's, PostgreSQL's and those of artifact stores."""

_ADDRESS_VARIABLE = re.compile(r"_(URI|URL|STORAGE)$")
"""The names of those that hold addresses, also where their values have no form of one."""


def without_secrets(text: str) -> str:
    """A text with `***` for each password in it: in addresses, behind names such as `password=`, and those of this
    process's environment and arguments wherever they stand as a word.
    """
    text = without_passwords(text)
    for secret in _known_secrets(tuple(os.environ.items()), tuple(sys.argv)):
        if secret in text:
            text = re.sub(rf"(?<![\w./-]){re.escape(secret)}(?![\w./-])", MASK, text)
    return text


def without_passwords(text: str) -> str:
    """A text with `***` for what is a password by its place: in an address, or behind a name such as `password=`."""
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<before>{MASK}", text)
    return text


def without_password(address: str) -> str:
    """An address, such as a tracking URI, that says where and not by what right; a database's user stays in it."""
    scheme, separator, rest = address.rpartition("://")
    userinfo, at, host = rest.rpartition("@")
    if at and _password(address):
        user = "" if scheme in ("http", "https") or not separator else userinfo.partition(":")[0]
        address = f"{scheme}{separator}{user}@{host}" if user else f"{scheme}{separator}{host}"
    return without_passwords(address)


def has_password(address: str) -> bool:
    """Whether a password stands in an address."""
    return without_password(address) != address


def move_password_to_environment() -> None:
    """Takes user and password out of `MLFLOW_TRACKING_URI`, where there are any, to MLflow's own variables for them.

    MLflow prints and notes the address as it is. That of the registry goes the same way, if it has the same ones.
    """
    moved = None
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        try:
            parts = urlsplit(os.environ.get(variable, ""))
            found = (unquote(parts.username or ""), unquote(parts.password or ""))
        except ValueError:
            continue
        if parts.scheme in ("http", "https") and all(found) and moved in (None, found):
            if variable == "MLFLOW_REGISTRY_URI" and moved is None:
                continue  # MLflow would give them to the tracking server as well
            moved = found
            os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = found
            os.environ[variable] = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@lru_cache(maxsize=4)
def _known_secrets(environment: Sequence[tuple[str, str]], arguments: Sequence[str]) -> list[str]:
    """The secrets of a process, the longest first, each as it is and as it stands in addresses."""
    found = {secret for name, value in environment for secret in _secrets_in(name, value)}
    found |= {secret for value in arguments for secret in _secrets_in("", value)}
    forms = {form for secret in found for form in (secret, unquote(secret), quote(secret, safe=""))}
    pieces = {piece for form in forms for piece in re.split(r"[/?#@]", form)}  # what parsers of addresses make of them
    return sorted((one for one in forms | pieces if len(one) >= LEAST_LENGTH), key=len, reverse=True)


def _secrets_in(name: str, value: str) -> Iterator[str]:
    if _VARIABLE.search(name) and not value.startswith("/"):  # which is a file
        yield value
    if "://" in value or _ADDRESS_VARIABLE.search(name):
        yield _password(value)
    for pattern in _PATTERNS:
        for found in pattern.finditer(value[:4096]):
            yield found["secret"]


def _password(address: str) -> str:
    """What stands before the last @ of an address as its password, or as a token; empty for nothing."""
    scheme, _, rest = address.rpartition("://")
    userinfo, at, _ = rest.rpartition("@")
    user, colon, password = userinfo.partition(":")
    if not at or rest.startswith("/") or password.startswith("/"):  # such as models:/name@alias
        return ""
    return password if colon else user if scheme in ("http", "https") else ""
