"""One encoding for names and texts, whatever the locale: UTF-8."""

import locale
import os
import sys


def speak_utf8() -> None:
    """Starts this command line anew where Python takes names, or files of text, for something else.

    MLflow and others write labels and names with the locale's encoding, and fail where it has no letters for them. What
    is printed keeps that encoding; `terminal/outputs.py` escapes the rest.
    """
    encodings = {sys.getfilesystemencoding(), locale.getpreferredencoding(False)}
    if {name.lower().replace("-", "") for name in encodings} == {"utf8"} or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding if sys.stdout else "ascii")
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
