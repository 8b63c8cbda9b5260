"""Passwords, kept out of all that is printed, logged and written."""

import os
import re
import sys
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import quote, unquote, urlsplit, urlunsplit

MASK = "***"

LEAST_LENGTH = 6
"""Of a secret that is looked for wherever it stands: shorter ones are parts of many words."""

# Lengths are bounded: a server's page may have a hundred thousand characters without a space.
_IN_ADDRESS = re.compile(r"(?P<before>://[^\s/?#:]{0,256}:)(?P<secret>(?!\d{1,5}[/?#])\S{1,512})(?=@)")
"""`://user:password@host`. A password may hold what an address would have to escape: the last @ of the word ends it."""

_HTTP_USER = re.compile(r"(?P<before>https?://)(?P<secret>[^\s/?#@:'\"]{1,256})(?=@)", re.IGNORECASE)
"""A token that stands alone before the host."""

_NAMED = re.compile(
    r"(?P<before>(?:(?P<word>password|passwd|pwd|passphrase)|secret|token|sig|x-amz-signature|"
    r"(?:access|account|secret|api)_?key)(?:\s{0,8}=\s{0,8}|['\"]\s{0,8}:\s{0,8}(?=b?['\"])))"
    r"(?P<secret>b?'[^']{1,512}'|b?\"[^\"]{1,512}\"|(?(word)[^\s&;,]{1,512}|[^\s&;,]{4,512}))",
    re.IGNORECASE,
)
"""As in the query of an address, PostgreSQL's keywords, Azure's connection strings, and what Python prints of them."""

_HEADER = re.compile(
    r"(?P<before>authorization['\"]?\s{0,8}[:=]\s{0,8}b?['\"]?(?:bearer|basic)\s{1,8})(?P<secret>[^\s'\"]{1,512})",
    re.IGNORECASE,
)

_PATTERNS = (_IN_ADDRESS, _HTTP_USER, _NAMED, _HEADER)

_VARIABLE = re.compile(
    r"(PASSWORD|PASSWD|PASSPHRASE|_PWD|_PASS|SECRET|TOKEN|(SECRET|ACCESS|ACCOUNT|API)_KEY|_PAT|_SAS|CONNECTION_STRING)$"
)
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
            text = re.sub(rf"(?<!\w)(?<!\w[./-]){re.escape(secret)}(?!\w|[./-]\w)", MASK, text)
    return text


def without_passwords(text: str) -> str:
    """A text with `***` for what is a password by its place: in an address, or behind a name such as `password=`."""
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<before>{MASK}", text)
    return text


def without_password(address: str) -> str:
    """An address, such as a tracking URI, that says where and not by what right; a database's user stays in it."""
    scheme, userinfo, rest = _split(address)
    if _password(address):
        user = userinfo.partition(":")[0] if scheme and not scheme.startswith("http") else ""
        address = f"{scheme}{user}@{rest}" if user else f"{scheme}{rest}"
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
    found = {value for name, value in environment if _VARIABLE.search(name) and not value.startswith("/")}  # no file
    addresses = [value for name, value in environment if "://" in value or _ADDRESS_VARIABLE.search(name)]
    for value in (*addresses, *arguments):
        password = _password(value) if "://" in value or value in addresses else ""
        found |= {password, *re.split(r"[/?#@]", password)}  # which is what parsers of addresses make of it
        found |= {match["secret"] for pattern in _PATTERNS for match in pattern.finditer(value[:4096])}
    forms = {form for secret in found for form in (secret, unquote(secret), quote(secret, safe=""))}
    return sorted((one for one in forms if len(one) >= LEAST_LENGTH), key=len, reverse=True)


def _password(address: str) -> str:
    """What stands before the host of an address as its password, or as a token; empty for nothing."""
    scheme, userinfo, _ = _split(address)
    user, colon, password = userinfo.partition(":")
    return password if colon else user if scheme.startswith("http") else ""


def _split(address: str) -> tuple[str, str, str]:
    """An address as its scheme with `://`, what stands before its host, and the rest of it."""
    before, separator, rest = address.partition("://")
    if not separator:
        before, rest = "", address
    host, _, port = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition(":")
    if "@" not in host + port and (port.isdecimal() or not host):
        return before + separator, "", rest
    end = len(re.split(r"[/?#]", rest, maxsplit=1)[0]) if "@" in host + port else len(rest)  # a password may hold a /
    userinfo, _, host = rest[:end].rpartition("@")
    return before + separator, userinfo, host + rest[end:]
