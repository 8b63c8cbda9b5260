import pytest

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.runtime import patience
from vjepa_mlflow.runtime.patience import AwayError, Patience


class Server:
    """One that is away for the first so many questions; a question that waits takes a second of a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, away: int):
        self.away, self.asked, self.now = away, 0, 0.0
        monkeypatch.setattr(patience.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(patience.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def answer(self) -> int:
        self.asked += 1
        if self.asked <= self.away:
            raise AwayError("refused")
        return self.asked


def test_a_short_absence_is_not_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(monkeypatch, away=4)
    assert Patience("the server").ask(server.answer) == 5
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("tells", [True, False])
def test_a_longer_one_is_told_once_and_so_is_its_end(
    tells: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(monkeypatch, away=20)
    assert Patience("the server", tells=tells).ask(server.answer) == 21
    lines = [
        "the server: it does not answer (refused): waiting for up to 60 s",
        "the server: it answers again",
    ]
    assert capsys.readouterr().err.splitlines() == (lines if tells else [])


def test_after_a_wait_in_vain_each_question_is_asked_once_until_one_is_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(monkeypatch, away=1000)
    whom = Patience("the server")
    with pytest.raises(UserError, match=r"^the server: it does not answer: none within 60 s \(refused\): expected one"):
        whom.ask(server.answer)
    assert server.now == patience.PATIENCE
    asked = server.asked
    with pytest.raises(UserError, match=r"^the server: it does not answer \(refused\): expected one that does"):
        whom.ask(server.answer)
    assert server.asked == asked + 1
    server.away = server.asked
    assert whom.ask(server.answer) == server.asked
    server.away = server.asked + 3
    assert whom.ask(server.answer) == server.away + 1  # it waits again


def test_who_waits_stops_when_the_command_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, away=1000)
    whom = Patience("the server", tells=False)

    def answer() -> int:
        if server.asked == 3:
            whom.give_up()
        return server.answer()

    with pytest.raises(UserError):
        whom.ask(answer)
    assert server.asked == 4


def test_an_interrupted_wait_waits_no_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, away=1000)
    whom = Patience("the server", tells=False)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        whom.ask(interrupt)
    with pytest.raises(UserError):
        whom.ask(server.answer)
    assert server.asked == 1
