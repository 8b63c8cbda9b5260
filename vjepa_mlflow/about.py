"""What this package is."""

from pathlib import Path

VERSION = "0.1.0"

FOLDER = Path(__file__).parent
"""Where it lies, which may be in an archive."""
