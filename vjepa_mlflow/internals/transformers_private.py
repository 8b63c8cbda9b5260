"""What this package uses of transformers that transformers does not document.

Looked at in transformers 4.57 and 5.24, of transformers>=4.57,<6. Nothing of it is imported before it is used.
"""

from collections.abc import Callable
from typing import Any

NEEDS_A_PACKAGE = "xielu"
"""The activation that looks for another package."""


def activations() -> list[str]:
    """The names of activations that a configuration may have, which only transformers' own layers look up."""
    from transformers.activations import ACT2FN

    return sorted(set(ACT2FN) - {NEEDS_A_PACKAGE})


def activation(name: str) -> Callable[..., Any]:
    """An activation by its name in a configuration, for a head that is computed without transformers' layers."""
    from transformers.activations import ACT2FN

    return ACT2FN[name]
