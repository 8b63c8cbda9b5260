import os
import subprocess
import sys


def test_an_ascii_locale_has_utf8_names_and_escaped_output() -> None:
    code = (
        "from vjepa_mlflow.terminal.encodings import speak_utf8; speak_utf8()\n"
        "from vjepa_mlflow.terminal.outputs import outlast_readers; outlast_readers()\n"
        "import locale, sys; print(locale.getpreferredencoding(False).lower(), sys.argv[1])"
    )
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, "grün"], env={**os.environ, **ascii_only}, capture_output=True, check=False
    )
    assert done.stdout == b"utf-8 gr\\xfcn\n", done.stderr
