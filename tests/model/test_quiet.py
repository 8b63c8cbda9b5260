"""transformers without its remarks, and as it was afterwards."""

import logging

import pytest
from transformers.utils import logging as transformers_logging

from vjepa_mlflow.model.quiet import quiet_transformers


@pytest.mark.parametrize("has_bars", [True, False])
def test_it_is_quiet_in_the_block_alone(has_bars: bool) -> None:
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    try:
        transformers_logging.set_verbosity(logging.INFO)
        (transformers_logging.enable_progress_bar if has_bars else transformers_logging.disable_progress_bar)()
        with pytest.raises(ValueError, match="stop"), quiet_transformers():
            fail_in_silence()
        assert transformers_logging.get_verbosity() == logging.INFO
        assert transformers_logging.is_progress_bar_enabled() == has_bars
    finally:
        transformers_logging.set_verbosity(verbosity)
        (transformers_logging.enable_progress_bar if bars else transformers_logging.disable_progress_bar)()


def fail_in_silence() -> None:
    assert transformers_logging.get_verbosity() == logging.ERROR
    assert not transformers_logging.is_progress_bar_enabled()
    raise ValueError("stop")
