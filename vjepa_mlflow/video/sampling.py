"""Which frames make a clip."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stretch:
    """`count` frames of a video, `stride` apart, the first at index `start`."""

    start: int
    stride: int
    count: int

    @property
    def span(self) -> int:
        """Frames from the first to the last, both included."""
        return (self.count - 1) * self.stride + 1


def choose_stretch(video_frames: int, num_frames: int, stride: int, position: float) -> Stretch:
    """Places a clip of `num_frames` in a video.

    Args:
        video_frames: frames of the video, at least 1.
        num_frames: frames of the clip.
        stride: frames from one sampled frame to the next; smaller where the video is too short for it.
        position: where among the possible starts, from 0 (first) to 1 (last); 0.5 is the centred clip.

    Returns:
        The stretch to read. A video with fewer frames than the clip is read whole, with stride 1; `count` is then
        the number of its frames, and repeating the last one is left to the reader.
    """
    count = min(num_frames, video_frames)
    if count > 1:
        stride = min(stride, (video_frames - 1) // (count - 1))
    possible_starts = video_frames - ((count - 1) * stride + 1)
    return Stretch(start=int(position * possible_starts), stride=stride, count=count)


def clip_positions(num_clips: int) -> list[float]:
    """Positions of `num_clips` clips spread evenly over a video, each in the middle of its share."""
    return [(index + 0.5) / num_clips for index in range(num_clips)]
