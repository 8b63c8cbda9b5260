"""What names of folders, columns and classes mean, and which of them two people would call the same."""

import re
import unicodedata
from collections.abc import Sequence

from vjepa_mlflow.data.samples import Sample
from vjepa_mlflow.errors import UserError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""The names a split goes by in folders, tables and list files, and what it is called here."""

_UNCLEAR = frozenset({"dev", "development", "eval", "evaluation", "heldout", "holdout", "trainval"})
"""Names of splits that different people use for different ones."""

_ADDITION = re.compile(r"(set|list|data|split|videos|clips)s?$")


def split_named(name: str) -> str | None:
    """The split that a name says, or None."""
    return SPLIT_NAMES.get(name.strip().casefold())


def split_words(name: str) -> set[str]:
    """The splits that words of a longer name say, such as `kinetics400_val` or `trainlist01`; "" for unclear ones."""
    words = [_ADDITION.sub("", word) for word in re.split(r"[^a-z]+", name.casefold())]
    splits = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return splits | ({""} if any(word in _UNCLEAR for word in words) else set())


def check_labels(data: str, samples: Sequence[Sample]) -> None:
    """Refuses classes whose names are no single line of text, or would be taken for each other.

    Raises:
        UserError: names them.
    """
    spelled: dict[str, Sample] = {}
    for sample in {sample.label: sample for sample in reversed(samples)}.values():
        if not _is_line(sample.label):
            raise UserError(
                f"data={data}: class {sample.label!a} ({sample.name}): expected a name on one line, in UTF-8 and "
                f"without control characters"
            )
    for sample in samples:
        other = spelled.setdefault(spoken(sample.label), sample)
        if other.label != sample.label:
            raise UserError(
                f"data={data}: classes {other.label!a} ({other.name}) and {sample.label!a} ({sample.name}) "
                f"are one name in two spellings: expected one, or two that differ in more"
            )


def _is_line(label: str) -> bool:
    """Whether a label has no line break, no control character, and nothing that is no text."""
    return not any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") for one in label)


def spoken(name: str) -> str:
    """What is the same for two names that one would read out alike: case, blanks and leading zeros are not heard."""
    text = unicodedata.normalize("NFKC", name).casefold()
    text = "".join(one for one in text if unicodedata.category(one) != "Cf")
    text = re.sub(r"(?<=\w)-(?=\w)", " ", text.replace("_", " "))  # a minus that is no sign
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"(?<!\d) | (?!\d)", "", text)  # between two numbers it is heard
    text = re.sub(r"(?<![\d.])0+(?=\d)", "", text)
    return re.sub(r"^([+-]?\d+)\.0*$", r"\1", text).removeprefix("+")
