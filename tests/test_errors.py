from vjepa_mlflow.errors import one_line, printable, reason


def test_an_error_is_its_first_line_or_its_kind() -> None:
    assert one_line(ValueError("\nfirst\nsecond")) == "first"
    assert one_line(ValueError()) == "ValueError"


def test_the_reason_is_what_an_error_came_from_in_the_end() -> None:
    error = ValueError("not written")
    error.__cause__ = OSError("No space left on device\nnone at all")
    assert reason(error) == "No space left on device"


def test_errors_that_come_from_each_other_have_a_reason_too() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert reason(first) == "second"


def test_a_terminal_obeys_no_text() -> None:
    assert printable("naïve \x1b[2J\r\nname\u202e") == r"naïve \x1b[2J\r\nname\u202e"
