"""What is wrong with a video."""


class VideoError(Exception):
    """A video that cannot be read. The message says what is wrong and never names the file."""
