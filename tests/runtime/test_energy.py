import logging
import socket
import sys
import time

import pytest

from vjepa_mlflow import UserError
from vjepa_mlflow.runtime.energy import Usage, describe_hardware, metering


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Refuses everything that leaves the machine, and lists what was tried."""
    tried: list[object] = []
    connect = socket.socket.connect

    def refuse(*what: object, **_: object) -> None:
        tried.append(what)
        raise OSError("no network in this test")

    def connect_here(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX:
            refuse(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket.socket, "sendto", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    return tried


def test_energy_and_co2_are_measured_without_a_network(attempts: list[object]) -> None:
    with metering("DEU") as germany, metering("NOR") as norway:
        time.sleep(1.5)
        used, clean = germany.read(), norway.read()
    assert attempts == []
    assert used.seconds >= 1.5
    assert used.energy is not None
    assert used.emissions is not None
    assert used.energy > 0
    assert set(used.metrics()) == {"duration_seconds", "energy_kwh", "emissions_kg_co2eq"}
    # Electricity made of water brings less CO2 than Germany's, which brings 0.2 to 0.6 kg a kWh.
    assert 0.2 < used.emissions / used.energy < 0.6
    assert clean.emissions / clean.energy < 0.1


def test_codecarbon_is_quiet_in_the_block_alone() -> None:
    codecarbon = logging.getLogger("codecarbon")
    before = codecarbon.level
    with metering(""):
        assert codecarbon.level == logging.ERROR
    assert codecarbon.level == before


def test_the_network_is_really_refused(attempts: list[object]) -> None:
    with pytest.raises(OSError, match="no network"):
        socket.create_connection(("192.0.2.1", 80))
    assert len(attempts) == 1


def test_without_a_country_the_time_is_known() -> None:
    with metering("") as meter:
        usage = meter.read()
    assert usage == Usage(usage.seconds)
    assert list(usage.metrics()) == ["duration_seconds"]


@pytest.mark.parametrize("country", ["DE", "deu", "Germany", "XXX"])
def test_a_wrong_country_is_refused(country: str) -> None:
    with pytest.raises(UserError, match=f"country={country}: expected an ISO 3166 alpha-3 code"), metering(country):
        pass


def test_a_country_without_the_extra_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "codecarbon"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with pytest.raises(UserError, match="need codecarbon: pip install codecarbon"), metering("DEU"):
        pass


def test_a_tracker_that_failed_costs_nothing_but_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    with metering("DEU") as meter:
        meter._tracker.stop = lambda: None  # codecarbon's own returns so after an error
        assert meter.read().energy is None
        del meter._tracker.stop
    assert "codecarbon could not measure" in capsys.readouterr().err


def test_the_hardware_is_named() -> None:
    assert "CPUs (" in describe_hardware()
