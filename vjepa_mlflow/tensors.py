"""What safetensors files say about themselves."""

import json


def read_metadata(content: bytes) -> dict[str, str]:
    """The metadata in a safetensors file's content: its header is JSON, after the header's length in eight bytes.

    Raises:
        ValueError: the content is not such a file's.
    """
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return dict(header.get("__metadata__", {}))
