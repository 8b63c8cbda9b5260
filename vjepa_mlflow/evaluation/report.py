"""The report: one HTML file that needs no other, and no network."""

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from PIL import Image

from vjepa_mlflow.evaluation.factors import FACTORS
from vjepa_mlflow.evaluation.figures import Prediction, join_frames
from vjepa_mlflow.evaluation.intervals import FEWEST
from vjepa_mlflow.evaluation.results import Evaluation
from vjepa_mlflow.evaluation.templates import fill

JPEG_QUALITY = 80


def render_report(
    title: str,
    evaluation: Evaluation,
    *,
    facts: Mapping[str, str],
    figures: Mapping[str, bytes],
    mistakes: Sequence[Prediction],
    hits: Sequence[Prediction],
    epochs: Sequence[Mapping[str, float]] = (),
) -> str:
    """Writes the report of an evaluation.

    Args:
        title: of the page.
        evaluation: what is reported.
        facts: what was evaluated and how, as names and values.
        figures: PNG files by name: `curves`, `confusion_matrix`, `calibration`; missing ones are left out.
        mistakes: the most confident ones.
        hits: the least certain ones.
        epochs: the metrics of each epoch of the training, if it was one.
    """
    sliced = {part.factor for part in evaluation.slices}
    return fill(
        "report.html",
        evaluation,
        filters={"base64": _base64, "strip": _jpeg_strip},
        title=title,
        facts=facts,
        figures=figures,
        mistakes=mistakes,
        hits=hits,
        epochs=epochs,
        concerns=[
            (concern, list(slices))
            for concern, slices in groupby(evaluation.slices, lambda part: FACTORS[part.factor].concern)
        ],
        alike=[factor.title.lower() for name, factor in FACTORS.items() if name not in sliced],
        fewest=FEWEST,
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _jpeg_strip(frames: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(join_frames(frames)).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
