import json
from dataclasses import fields

import pytest
import yaml

from vjepa_mlflow import UserError
from vjepa_mlflow.flavor.config import ServingConfig, read_config
from vjepa_mlflow.video import Limits


def test_it_survives_yaml_and_json() -> None:
    config = ServingConfig(precision="bf16", decoders=3, limits=Limits(max_seconds=5.5, codecs=("h264",)))
    values = config.to_model_config()
    assert set(values) == {one.name for one in (*fields(ServingConfig), *fields(Limits))} - {"limits"}
    assert read_config(yaml.safe_load(yaml.safe_dump(values))) == config
    assert read_config(json.loads(json.dumps(values))) == config


def test_what_is_not_given_has_its_default() -> None:
    assert read_config({}) == ServingConfig()
    assert read_config({"max_seconds": 7}) == ServingConfig(limits=Limits(max_seconds=7.0))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_videos", 0, "a whole number of at least 1"),
        ("max_videos", "many", "a whole number of at least 1"),
        ("max_videos", 1.5, "a whole number of at least 1"),
        ("max_videos", True, "a whole number of at least 1"),
        ("decoders", -1, "a whole number of at least 0"),
        ("max_pixels", float("nan"), "a whole number of at least 1"),
        ("max_seconds", 0, "a number above 0"),
        ("max_seconds", None, "a number above 0"),
        ("precision", "fp8", "one of fp32, tf32, bf16"),
        ("device", 0, "a word, such as auto"),
        ("codecs", "h264", "a list of names, such as av1, dnxhd, dvvideo"),
        ("containers", [], "a list of names"),
    ],
)
def test_wrong_values_are_named(name: str, value: object, expected: str) -> None:
    with pytest.raises(UserError, match=f"{name}=.*: expected {expected}"):
        read_config({name: value})
