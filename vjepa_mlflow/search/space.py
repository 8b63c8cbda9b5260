"""Which values of which fields of the recipe a sweep tries."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.recipe import ENVIRONMENT_FIELDS, Recipe

if TYPE_CHECKING:
    from optuna.trial import Trial

FIELDS = {field.name: field for field in dataclasses.fields(Recipe) if field.name not in ENVIRONMENT_FIELDS}
"""The fields that trials may differ in."""
RANGE_KEYS = ("low", "high", "log", "step")


@dataclass(frozen=True)
class Dimension:
    """The values of one field: some choices, or all from `low` to `high`.

    Attributes:
        field: its name in the recipe.
        choices: all values; empty for a range.
        low: the smallest value.
        high: the largest value.
        log: whether to draw evenly in the logarithm.
        step: from one value to the next; None draws any number.
    """

    field: str
    choices: tuple[Any, ...] = ()
    low: Any = None
    high: Any = None
    log: bool = False
    step: Any = None

    def suggest(self, trial: "Trial") -> Any:
        if self.choices:
            return trial.suggest_categorical(self.field, self.choices)
        if isinstance(self.low, int):
            return trial.suggest_int(self.field, self.low, self.high, step=self.step or 1, log=self.log)
        return trial.suggest_float(self.field, self.low, self.high, step=self.step, log=self.log)

    @property
    def count(self) -> int:
        """How many values a whole-numbered field, or one with choices, has."""
        return len(self.choices) or (self.high - self.low) // (self.step or 1) + 1

    def __contains__(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        if not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step else 0
        return math.isclose(steps, round(steps), abs_tol=1e-9)

    def __str__(self) -> str:
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        step = f", step {self.step:g}" if self.step else ""
        return f"{self.low:g} to {self.high:g}{step}{', log' if self.log else ''}"


@dataclass(frozen=True)
class SearchSpace:
    """The fields that a sweep tries values of, in the order of its file."""

    dimensions: tuple[Dimension, ...]

    def __iter__(self) -> Any:
        return iter(self.dimensions)

    @property
    def fields(self) -> list[str]:
        return [dimension.field for dimension in self.dimensions]

    def suggest(self, trial: "Trial") -> dict[str, Any]:
        """A trial's values by field."""
        return {dimension.field: dimension.suggest(trial) for dimension in self.dimensions}

    def values(self, name: str, recipe: Recipe) -> list[Any]:
        """The values of a field that trials may have, where it has choices, or is not searched."""
        choices = [value for dimension in self if dimension.field == name for value in dimension.choices]
        return choices or [getattr(recipe, name)]

    def baseline(self, recipe: Recipe) -> dict[str, Any]:
        """The recipe's own values of the fields, which the first trial tries.

        Raises:
            UserError: one of them is not in the space.
        """
        for dimension in self.dimensions:
            value = getattr(recipe, dimension.field)
            if value not in dimension:
                raise UserError(
                    f"{dimension.field}={value}: the first trial tries it, and the search space is {dimension}: "
                    f"expected a value in it, or a wider space"
                )
        return {field: getattr(recipe, field) for field in self.fields}

    @property
    def accumulation_sizes(self) -> int:
        """How many sizes an optimizer step's window has among all trials, or rather more."""
        return math.prod(
            dimension.count for dimension in self if dimension.field in ("gradient_accumulation_steps", "batch_size")
        )

    def most(self, field: str, recipe: Recipe) -> int:
        """The largest value that a whole-numbered field takes in any trial."""
        for dimension in self.dimensions:
            if dimension.field == field:
                return int(max(dimension.choices) if dimension.choices else dimension.high)
        return int(getattr(recipe, field))


def read_space(where: str, entries: Any) -> SearchSpace:
    """Reads the search space of a sweep's file.

    Args:
        where: the file, for messages.
        entries: what its key `space` holds.

    Raises:
        UserError: a field, a key or a value is not as expected.
    """
    if not isinstance(entries, dict) or not entries:
        raise UserError(f"{where}: space: expected fields of the recipe, each with low and high, or choices")
    return SearchSpace(tuple(_read_dimension(where, name, entry) for name, entry in entries.items()))


def _read_dimension(where: str, name: str, entry: Any) -> Dimension:
    if name not in FIELDS:
        reason = "cannot be searched" if name in ENVIRONMENT_FIELDS else "no field of the recipe"
        raise UserError(f"{where}: space.{name}: {reason}: expected one of {', '.join(FIELDS)}")
    where = f"{where}: space.{name}"
    if not isinstance(entry, dict):
        raise UserError(f"{where}: {entry!r}: expected low and high, or choices")
    if "choices" in entry:
        _check_keys(where, entry, ("choices",))
        return Dimension(name, choices=_read_choices(where, name, entry["choices"]))
    return _read_range(where, name, entry)


def _read_choices(where: str, name: str, choices: Any) -> tuple[Any, ...]:
    if not isinstance(choices, list) or not choices:
        raise UserError(f"{where}.choices: {choices!r}: expected a list of values")
    values = tuple(_read_value(f"{where}.choices", name, choice) for choice in choices)
    if len(set(values)) < len(values):
        raise UserError(f"{where}.choices: {choices}: expected every value once")
    return values


def _read_range(where: str, name: str, entry: Mapping[str, Any]) -> Dimension:
    kind = FIELDS[name].type
    if kind not in (int, float):
        raise UserError(f"{where}: it is no number: expected choices")
    _check_keys(where, entry, RANGE_KEYS)
    for key in ("low", "high"):
        if key not in entry:
            raise UserError(f"{where}: no {key}: expected low and high, or choices")
    low, high = (_read_value(f"{where}.{key}", name, entry[key]) for key in ("low", "high"))
    log = entry.get("log", False)
    step = None if entry.get("step") is None else _read_number(f"{where}.step", kind, entry["step"])
    if low > high:
        raise UserError(f"{where}: low {low:g} is above high {high:g}: expected it the other way round")
    if not isinstance(log, bool):
        raise UserError(f"{where}.log: {log!r}: expected true or false")
    if log and (step is not None or low <= 0):
        raise UserError(f"{where}: log goes with no step and with a low above 0")
    if step is not None and step <= 0:
        raise UserError(f"{where}.step: {step:g}: expected more than 0")
    return Dimension(name, low=low, high=high, log=log, step=step)


def _read_value(where: str, name: str, value: Any) -> Any:
    """A value that the recipe's field takes."""
    kind = FIELDS[name].type
    if kind in (int, float):
        value = _read_number(where, kind, value)
    try:
        dataclasses.replace(Recipe(), **{name: value})
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return value


def _read_number(where: str, kind: Any, value: Any) -> Any:
    """A number, also where YAML takes one such as 1e-5 for a text."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (kind is int and number != round(number)):
        raise UserError(f"{where}: {value!r}: expected a {'whole number' if kind is int else 'number'}")
    return kind(number)


def _check_keys(where: str, entry: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    for key in entry:
        if key not in allowed:
            raise UserError(f"{where}.{key}: unknown key: expected {', '.join(allowed)}")
