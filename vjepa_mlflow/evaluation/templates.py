"""The texts that evaluations are poured into: `report.html` and `card.md`."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from vjepa_mlflow.evaluation.factors import ERROR_RATE, FACTORS
from vjepa_mlflow.evaluation.metrics import TITLES
from vjepa_mlflow.evaluation.results import Evaluation
from vjepa_mlflow.metrics import EPOCH_COLUMNS, METRICS


def fill(name: str, evaluation: Evaluation, *, filters: Mapping[str, Callable[..., Any]], **values: Any) -> str:
    """Fills in a template of this folder; in HTML, whatever stands in a name is escaped.

    Args:
        name: of the template.
        evaluation: what both tell of, as `evaluation`.
        filters: by the names that the template has for them.
        **values: what else it names.
    """
    environment = _environment(name)
    environment.filters |= filters
    return environment.get_template(name).render(
        evaluation=evaluation,
        factors=FACTORS,
        titles=TITLES,
        meanings={name: METRICS[name].meaning for name in TITLES},
        epoch_columns=EPOCH_COLUMNS,
        error_rate=ERROR_RATE,
        **values,
    )


@functools.cache
def _environment(name: str) -> Environment:
    """Of a template, which it compiles once."""
    return Environment(
        loader=PackageLoader("vjepa_mlflow", "evaluation"),
        autoescape=name.endswith(".html"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
