"""The motions that the tiny checkpoint learns to tell apart.

A figure may slide in one of eight directions, turn, and grow or shrink, all at once; what it does alone it may also do
and undo, and the camera may do. Left out is what the demo asks for: sliding along the picture's sides while turning.
"""

import math
from itertools import product

from vjepa_mlflow.data import demo
from vjepa_mlflow.data.motions import Motion

_DIAGONAL = math.sqrt(0.5)
DIAGONAL = {
    f"{vertical}_{horizontal}": (right * _DIAGONAL, down * _DIAGONAL)
    for vertical, down in (("down", 1), ("up", -1))
    for horizontal, right in (("left", -1), ("right", 1))
}
TURNS = {"": 0, **demo.TURNS}
SIZES = {"": 0, "growing": 1, "shrinking": -1}


def make_vocabulary() -> dict[str, Motion]:
    """Each class and its motion."""
    slides = {"": (0, 0), **demo.DIRECTIONS, **DIAGONAL}
    motions = {
        "_".join(filter(None, (slide, turn, size))) or "still": Motion(*slides[slide], TURNS[turn], SIZES[size])
        for slide, turn, size in product(slides, TURNS, SIZES)
        if not (slide in demo.DIRECTIONS and turn)
    }
    alone = [name for name in motions if name in {**slides, **TURNS, **SIZES}]
    undone = {f"{name}_and_back": motions[name]._replace(returning=1) for name in alone}
    cameras = {f"camera_{name}": motions[name]._replace(camera=1) for name in alone}
    return {**motions, **undone, **cameras}
