"""What a checkpoint's JSON files say, looked at before anything is built of it, without PyTorch and transformers.

Only what describes a V-JEPA 2 is taken. Whatever else transformers would heed there, such as code of the checkpoint's
own, adapters, quantization or another implementation of attention, is left alone.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.paths import shortened
from vjepa_mlflow.files.reading import read_json

CONFIG_FILE = "config.json"
PROCESSOR_FILE = "video_preprocessor_config.json"

LARGEST_FILE = 1 << 24
LARGEST_CLIP = 1 << 28
"""Bytes of a clip in fp32: twice those of 64 frames of 384 pixels."""

MOST_LAYERS = 512
"""Ten times those of the largest V-JEPA 2."""

DEFAULT_LABELS = ("LABEL_0", "LABEL_1")
"""What transformers calls classes, and does not write down."""


class _Range(NamedTuple):
    """What a number may be.

    Attributes:
        default: what transformers takes where the file says nothing.
        least: the smallest value.
        most: the largest one.
    """

    default: int | float
    least: float
    most: float


_WHOLE = {
    "patch_size": _Range(16, 1, 1 << 10),
    "crop_size": _Range(256, 1, 1 << 13),
    "frames_per_clip": _Range(64, 1, 1 << 16),
    "tubelet_size": _Range(2, 1, 1 << 10),
    "hidden_size": _Range(1024, 1, 1 << 14),
    "in_chans": _Range(3, 3, 3),
    "num_attention_heads": _Range(16, 1, 1 << 10),
    "num_hidden_layers": _Range(24, 1, MOST_LAYERS),
    "num_pooler_layers": _Range(3, 0, MOST_LAYERS),
    "pred_hidden_size": _Range(384, 1, 1 << 14),
    "pred_num_attention_heads": _Range(12, 1, 1 << 10),
    "pred_num_hidden_layers": _Range(12, 0, MOST_LAYERS),
    "pred_num_mask_tokens": _Range(10, 0, 1 << 10),
}
_NUMBERS = {
    "drop_path_rate": _Range(0.0, 0, 0.99),
    "mlp_ratio": _Range(4.0, 1e-3, 64),
    "attention_probs_dropout_prob": _Range(0.0, 0, 0.99),
    "attention_dropout": _Range(0.0, 0, 0.99),
    "pred_mlp_ratio": _Range(4.0, 1e-3, 64),
}
_FLOATS = {
    "layer_norm_eps": _Range(1e-6, 1e-12, 1),
    "initializer_range": _Range(0.02, 0, 1),
}
"""Where transformers takes no whole number."""

_SWITCHES = {"qkv_bias": True, "pred_zero_init_mask_tokens": True}

FIELDS = (*_WHOLE, *_NUMBERS, *_FLOATS, *_SWITCHES, "hidden_act")
"""Those of `VJEPA2Config`'s own signature."""

_RESAMPLE = (0, 2, 3)
"""Pillow's numbers of nearest, bilinear and bicubic: the filters that tensors are resized with."""


class Sides(NamedTuple):
    """Of a rectangle, in pixels."""

    height: int
    width: int


_CROP = Sides(256, 256)


@dataclass(frozen=True)
class Preprocessing:
    """What is done to frames, by the names and with the defaults of `VJEPA2VideoProcessor`'s arguments.

    Attributes:
        crop_size: of what is cut out of the resized frames.
        do_normalize: whether means are subtracted, and the rest divided by standard deviations.
        do_rescale: whether values are multiplied by `rescale_factor`.
        do_resize: whether frames are resized first.
        image_mean: of each channel, once rescaled.
        image_std: standard deviation of each channel, once rescaled.
        resample: Pillow's number of the filter that resizes.
        rescale_factor: see `do_rescale`.
    """

    crop_size: Sides = _CROP
    do_normalize: bool = True
    do_rescale: bool = True
    do_resize: bool = True
    image_mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    image_std: tuple[float, ...] = (0.229, 0.224, 0.225)
    resample: int = 2
    rescale_factor: float = 1 / 255

    @property
    def shortest_edge(self) -> int:
        """Of the resized frames, in pixels, which the processor takes from `crop_size` whatever it is told."""
        return int(self.crop_size.height * 256 / 224)

    def arguments(self) -> dict[str, Any]:
        """All of the processor's arguments that change frames, as its file has them."""
        return {
            **asdict(self),
            "crop_size": self.crop_size._asdict(),
            "do_center_crop": True,
            "image_mean": list(self.image_mean),
            "image_std": list(self.image_std),
            "size": {"shortest_edge": self.shortest_edge},
        }


class ClipShape(NamedTuple):
    """What a model makes of a clip: features of shape (tokens, hidden size), out of so many frames."""

    num_frames: int
    tokens: int
    hidden_size: int

    @classmethod
    def of(cls, architecture: Any) -> "ClipShape":
        """That of a model with a `VJEPA2Config`, or with what has the same attributes."""
        steps = max(1, architecture.frames_per_clip // architecture.tubelet_size)
        side = architecture.crop_size // architecture.patch_size
        return cls(architecture.frames_per_clip, steps * side**2, architecture.hidden_size)

    @property
    def values(self) -> int:
        """Of a clip's features."""
        return self.tokens * self.hidden_size


@dataclass(frozen=True)
class Configuration:
    """A V-JEPA 2 classifier's architecture.

    Attributes:
        fields: the values of all `FIELDS`.
        labels: the classes, in the order of the outputs.
    """

    fields: Mapping[str, Any]
    labels: tuple[str, ...]

    @property
    def architecture(self) -> SimpleNamespace:
        """The fields by the names that they have as attributes of a `VJEPA2Config`."""
        return SimpleNamespace(**self.fields)

    @property
    def frames_per_clip(self) -> int:
        return int(self.fields["frames_per_clip"])


def read_configuration(about: str, folder: Path) -> Configuration:
    """Reads `config.json`.

    Args:
        about: what the folder is called, such as `model=/path`: messages begin with it.
        folder: of the checkpoint.

    Raises:
        UserError: it is not a V-JEPA 2's, or says what cannot be.
    """
    given = _read(about, folder, CONFIG_FILE)
    if given.get("model_type") != "vjepa2":
        kind = shortened(str(given.get("model_type")))
        raise UserError(f"{about}: model type '{kind}': expected a V-JEPA 2 checkpoint ('vjepa2')")
    about = f"{about}: {CONFIG_FILE}"
    fields: dict[str, Any] = {}
    for ranges, kinds in ((_WHOLE, int), (_NUMBERS, int | float), (_FLOATS, float)):
        for name, allowed in ranges.items():
            fields[name] = _number(about, name, given.get(name, allowed.default), kinds, allowed)
    for name, default in _SWITCHES.items():
        fields[name] = _switch(about, name, given.get(name, default))
    fields["hidden_act"] = given.get("hidden_act", "gelu")
    if not isinstance(fields["hidden_act"], str):
        _refuse(about, "hidden_act", fields["hidden_act"], "the name of an activation, such as gelu")
    _check_fit(about, fields)
    return Configuration(fields, _labels(about, given.get("id2label")))


def read_preprocessing(about: str, folder: Path) -> Preprocessing:
    """Reads `video_preprocessor_config.json`.

    Args:
        about: see `read_configuration`.
        folder: of the checkpoint.

    Raises:
        UserError: there is none, or it says what cannot be.
    """
    configuration = read_configuration(about, folder)
    preprocessing = check_preprocessing(about, _read(about, folder, PROCESSOR_FILE))
    about = f"{about}: {PROCESSOR_FILE}"
    _sides(about, "crop_size", preprocessing.crop_size._asdict(), least=configuration.fields["patch_size"])
    _check_clip(about, "crop_size", configuration.frames_per_clip, *preprocessing.crop_size)
    return preprocessing


def check_preprocessing(about: str, values: Mapping[str, Any]) -> Preprocessing:
    """What such a file says, each value by itself.

    Args:
        about: see `read_configuration`.
        values: by it; where a value is missing or None, it is the default.

    Raises:
        UserError: a value is not of its kind, or out of its range.
    """
    given = {name: value for name, value in values.items() if value is not None}
    about = f"{about}: {PROCESSOR_FILE}"
    if not _switch(about, "do_center_crop", given.get("do_center_crop", True)):
        _refuse(about, "do_center_crop", False, "true, since all clips of a model have one size")
    checks: dict[str, Callable[[str, str, Any], Any]] = {
        "crop_size": partial(_sides, least=1),
        "do_normalize": _switch,
        "do_rescale": _switch,
        "do_resize": _switch,
        "image_mean": partial(_channels, allowed=_Range(0.5, -1e4, 1e4)),
        "image_std": partial(_channels, allowed=_Range(0.5, 1e-6, 1e4)),
        "resample": _resample,
        "rescale_factor": partial(_number, kinds=int | float, allowed=_Range(1 / 255, 1e-6, 1e4)),
    }
    return Preprocessing(**{name: check(about, name, given[name]) for name, check in checks.items() if name in given})


def _read(about: str, folder: Path, name: str) -> dict[str, Any]:
    try:
        given = read_json(folder / name, at_most=LARGEST_FILE)
    except FileNotFoundError:
        raise UserError(f"{about}: no {name} in {folder}: expected a from_pretrained folder") from None
    except OSError as error:
        raise UserError(f"{about}: {name} cannot be read ({one_line(error)}): expected a file") from None
    except ValueError as error:
        raise UserError(
            f"{about}: {name} in {folder} is not a model configuration ({one_line(error)}): expected JSON"
        ) from None
    if not isinstance(given, dict):
        raise UserError(f"{about}: {name} in {folder} is not a model configuration: expected names and values")
    return given


def _refuse(about: str, name: str, value: Any, expected: str) -> NoReturn:
    raise UserError(f"{about}: {name}={shortened(repr(value))}: expected {expected}")


def _number(about: str, name: str, value: Any, kinds: Any, allowed: _Range) -> Any:
    if isinstance(value, kinds) and not isinstance(value, bool) and allowed.least <= value <= allowed.most:
        return value
    kind = "a whole number" if kinds is int else "a number"
    return _refuse(about, name, value, f"{kind} from {allowed.least:g} to {allowed.most:g}")


def _switch(about: str, name: str, value: Any) -> bool:
    return value if isinstance(value, bool) else _refuse(about, name, value, "true or false")


def _channels(about: str, name: str, value: Any, allowed: _Range) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != 3:
        _refuse(about, name, value, "three numbers")
    return tuple(_number(about, name, one, int | float, allowed) for one in value)


def _resample(about: str, name: str, value: Any) -> int:
    if type(value) is not int or value not in _RESAMPLE:
        _refuse(about, name, value, f"one of {', '.join(map(str, _RESAMPLE))}")
    return value


def _sides(about: str, name: str, value: Any, least: int) -> Sides:
    """Those of a square that has one side given, or a height and a width."""
    allowed = _Range(256, least, _WHOLE["crop_size"].most)
    if not isinstance(value, dict):
        side = _number(about, name, value, int, allowed)
        return Sides(side, side)
    return Sides(*(_number(about, f"{name}.{side}", value.get(side), int, allowed) for side in Sides._fields))


def _check_fit(about: str, fields: Mapping[str, Any]) -> None:
    """Refuses values that are plausible one by one and not together."""
    for size, heads, ratio in (
        ("hidden_size", "num_attention_heads", "mlp_ratio"),
        ("pred_hidden_size", "pred_num_attention_heads", "pred_mlp_ratio"),
    ):
        if fields[size] % fields[heads]:
            _refuse(about, size, fields[size], f"a multiple of {heads}={fields[heads]}")
        if int(fields[size] * fields[ratio]) < 1:
            _refuse(about, ratio, fields[ratio], f"one that leaves some of {size}={fields[size]}")
    if fields["crop_size"] < fields["patch_size"]:
        _refuse(about, "crop_size", fields["crop_size"], f"at least patch_size={fields['patch_size']}")
    _check_clip(about, "frames_per_clip", fields["frames_per_clip"], fields["crop_size"], fields["crop_size"])


def _check_clip(about: str, name: str, frames: int, height: int, width: int) -> None:
    if frames * height * width * 3 * 4 > LARGEST_CLIP:
        _refuse(about, name, f"{frames}x{height}x{width}", f"frames of a clip of at most {LARGEST_CLIP >> 20} MiB")


def _labels(about: str, given: Any) -> tuple[str, ...]:
    """The classes by number; those that transformers does not write down where there are none."""
    if given is None:
        return DEFAULT_LABELS
    expected = "a text for each number from 0 on, all of them different"
    if not isinstance(given, dict) or not given:
        _refuse(about, "id2label", given, expected)
    for index in range(len(given)):
        if str(index) not in given:
            _refuse(about, f"id2label of {index}", None, expected)
    labels = tuple(given[str(index)] for index in range(len(given)))
    for label in labels:
        if not isinstance(label, str) or not _is_text(label):
            _refuse(about, "id2label", label, expected)
    if len(set(labels)) < len(labels):
        ((twice, count),) = Counter(labels).most_common(1)
        _refuse(about, "id2label", twice, f"{expected}, and not this one {count} times")
    return labels


def _is_text(label: str) -> bool:
    """Whether it can be a folder's name, also of one that is no proper text: JSON may hold halves of characters."""
    try:
        label.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
