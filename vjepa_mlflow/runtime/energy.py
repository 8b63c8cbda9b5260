"""How long a run took, on what, and how much electricity and CO2 that was, as far as it can be told."""

import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.runtime.cpus import usable_cpus

logger = get_logger(__name__)


@dataclass(frozen=True)
class Usage:
    """What a run has used so far.

    Attributes:
        seconds: how long it took.
        country: whose electricity it was, an ISO 3166 alpha-3 code; empty where nobody said.
        energy: of the whole machine in kWh, estimated by codecarbon; None without a country, or where that failed.
        emissions: in kg of CO2 equivalent, with the country's yearly mean; None likewise.
    """

    seconds: float
    country: str = ""
    energy: float | None = None
    emissions: float | None = None

    def metrics(self) -> dict[str, float]:
        """What is known, by the names that it is logged under."""
        measured = {"duration_seconds": self.seconds, "energy_kwh": self.energy, "emissions_kg_co2eq": self.emissions}
        return {name: value for name, value in measured.items() if value is not None}


class Meter:
    """Measures from its making on."""

    def __init__(self, country: str):
        self._country = country
        self._started = time.perf_counter()
        self._tracker = _start_tracker(country) if country else None

    def read(self) -> Usage:
        """What was used until now, or until it was first read: the tracker stops then."""
        seconds = time.perf_counter() - self._started
        if self._tracker is None:
            return Usage(seconds)
        self._tracker.stop()
        used = getattr(self._tracker, "final_emissions_data", None)
        if used is None:  # codecarbon swallows what goes wrong in it
            logger.warning("codecarbon could not measure energy and CO2")
            return Usage(seconds, self._country)
        return Usage(seconds, self._country, energy=used.energy_consumed, emissions=used.emissions)

    def close(self) -> None:
        if self._tracker is not None:
            self._tracker.stop()


@contextmanager
def metering(country: str) -> Iterator[Meter]:
    """Measures inside the block.

    Args:
        country: an ISO 3166 alpha-3 code; empty measures the time alone.

    Raises:
        UserError: codecarbon does not know the code, or is not installed.
    """
    check_country(country)
    with _quiet_codecarbon():
        meter = Meter(country)
        try:
            yield meter
        finally:
            meter.close()


@contextmanager
def _quiet_codecarbon() -> Iterator[None]:
    """Has it tell of errors alone in the block: it would tell of its making before it takes its level."""
    codecarbon = logging.getLogger("codecarbon")
    before = codecarbon.level
    codecarbon.setLevel(logging.ERROR)
    try:
        yield
    finally:
        codecarbon.setLevel(before)


def check_country(country: str) -> None:
    """Refuses a country that there are no figures for; the empty one stands for none.

    Raises:
        UserError: codecarbon does not know the code, or is not installed.
    """
    if not country:
        return
    try:
        from codecarbon.input import DataSource
    except ImportError:
        raise UserError(
            f"country={country}: energy and CO2 need codecarbon: pip install codecarbon, or this package with its "
            f"extra 'emissions'"
        ) from None
    if country not in DataSource().get_global_energy_mix_data():
        raise UserError(f"country={country}: expected an ISO 3166 alpha-3 code of a country, such as DEU, USA or IND")


def _start_tracker(country: str) -> Any:
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(
        country_iso_code=country,
        save_to_file=False,
        save_to_api=False,
        log_level="error",
        allow_multiple_runs=True,  # with one at a time, a second run on the machine would measure nothing
    )
    tracker.start()
    return tracker


def describe_hardware() -> str:
    """This machine's processors, memory and GPUs, in words."""
    import torch

    parts = [
        f"{usable_cpus()} of {os.cpu_count()} CPUs ({_processor_name()})",
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB of memory",
    ]
    if torch.cuda.is_available():
        parts.append(f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}")
    return ", ".join(parts)


def _processor_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
