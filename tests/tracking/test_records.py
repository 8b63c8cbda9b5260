import pytest
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c as tensorboards_crc32c

from vjepa_mlflow.tracking.records import crc32c


@pytest.mark.parametrize("length", [4, 5, 8, 9, 63, 64, 65, 1000, 4097])
def test_checksums_are_those_of_tensorboard(length: int) -> None:
    content = bytes((7 * index * index + 3) % 256 for index in range(length))
    assert crc32c(content) == tensorboards_crc32c(content)
    assert crc32c(bytes(length)) == tensorboards_crc32c(bytes(length))
