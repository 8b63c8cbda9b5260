"""What a data set is understood as, and what a training on it would take. It opens every video, and no model."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vjepa_mlflow import data, flavor, model, video
from vjepa_mlflow.bad_videos import BadVideos
from vjepa_mlflow.data.seen import FILE as SEEN_FILE
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files.paths import expand
from vjepa_mlflow.files.temporary import own_temporaries
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.cpus import usable_cpus
from vjepa_mlflow.stages.pace import clip_count, known_pace
from vjepa_mlflow.stages.prepare import describe_test_groups
from vjepa_mlflow.stages.videos import VideoCheck, check_classes
from vjepa_mlflow.terminal.columns import align

SHOWN_CLASSES = 40
SHOWN_NAMES = 20
"""Of what is left out for one reason; a training's run has all of them."""

SHOWN_KINDS = 4
"""Sizes and rates that are told, the most frequent first."""

BYTES = {"fp32": 4, "tf32": 4, "bf16": 2}
"""Of a stored feature, by precision."""


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        recipe: what was asked.
        listing: how the data was read.
        videos: what was found of the videos.
        dataset: the splits of those that can be used.
    """

    recipe: Recipe
    listing: data.Listing
    videos: VideoCheck
    dataset: data.VideoDataset

    def text(self) -> str:
        """All of it, as lines for a terminal."""
        sections = {
            "Data": self._data(),
            "Splits": self._splits(),
            "Groups": self._groups(),
            "Durations": self._durations(),
            "Frames": self._kinds([f"{one.width}x{one.height}" for one in self.videos.findings]),
            "Frame rates": self._kinds([f"{one.frames_per_second:.4g}" for one in self.videos.findings]),
            "Doubles": self.dataset.doubles()[:SHOWN_CLASSES],
            "Bad videos": self._bad_videos(),
            "Replaced": self.videos.describe_replaced(),
            "Refused by servers": self.videos.describe_refusals(shown=SHOWN_NAMES),
            "Left out": self.listing.describe_left_out(shown=SHOWN_NAMES),
            "Notes": [
                *self.listing.notes,
                *self.dataset.remarks(),
                *self._about_the_model(),
                *self.videos.describe_rates(self.recipe),
                *describe_test_groups(self.dataset),
            ],
            "Training": list(self._training()),
        }
        rows = [
            [name if not index else "", line] for name, lines in sections.items() for index, line in enumerate(lines)
        ]
        return "\n".join(align(rows))

    def refuse_faults(self) -> None:
        """Says that a training would not begin, where it would not.

        Raises:
            UserError: some videos cannot be used, and the recipe does not leave them out.
        """
        if self.videos.faults:
            count = f"{len(self.videos.faults)} of {len(self.listing.samples)} videos"
            BadVideos(self.recipe.bad_videos).instead_of_training(self.recipe.data, count=count)

    def _samples(self) -> list[data.Sample]:
        return [sample for samples in self.dataset.splits.values() for sample in samples]

    def _data(self) -> list[str]:
        samples = self._samples()
        minutes = sum(one.seconds for one in self.videos.findings) / 60
        size = sum(sample.version.size for sample in samples if sample.version) / 2**20
        return [
            str(data.locate_data(self.recipe.data).resolve()),
            f"{len(samples)} videos of {len(self.dataset.labels)} classes, {minutes:.1f} minutes, {size:.1f} MiB",
        ]

    def _splits(self) -> list[str]:
        counts = {split: Counter(one.label for one in samples) for split, samples in self.dataset.splits.items()}
        groups = defaultdict(set)
        for sample, unit in zip(self._samples(), data.undivided_groups(self._samples()), strict=True):
            groups[sample.label].add(unit)
        rows = [["class", *data.SPLITS, "different groups"]]
        for label in self.dataset.labels[:SHOWN_CLASSES]:
            rows.append([label, *(str(counts[split][label]) for split in data.SPLITS), str(len(groups[label]))])
        if (more := len(self.dataset.labels) - SHOWN_CLASSES) > 0:
            rows.append([f"... {more} more", *[""] * (len(data.SPLITS) + 1)])
        rows.append(["all", *(str(counts[split].total()) for split in data.SPLITS), ""])
        drawn = [f"{' and '.join(self.dataset.drawn)} drawn, seed {self.recipe.seed}"] if self.dataset.drawn else []
        return [*align(rows), *drawn]

    def _groups(self) -> list[str]:
        sizes = Counter(sample.group for sample in self._samples() if sample.group is not None)
        if not sizes:
            return ["none: every video stands for itself, but for copies"]
        alone = sum(sample.group is None for sample in self._samples())
        rest = f"; {alone} videos are in none" if alone else ""
        return [f"{len(sizes)}, of {min(sizes.values())} to {max(sizes.values())} videos{rest}"]

    def _durations(self) -> list[str]:
        seconds = sorted(one.seconds for one in self.videos.findings)
        return [f"{seconds[0]:.1f} to {seconds[-1]:.1f} s, median {statistics.median(seconds):.1f} s"]

    def _kinds(self, kinds: Sequence[str]) -> list[str]:
        counts = sorted(Counter(kinds).items(), key=lambda one: (-one[1], one[0]))
        rest = sum(count for _, count in counts[SHOWN_KINDS:])
        most = ", ".join(f"{kind} ({count})" for kind, count in counts[:SHOWN_KINDS])
        return [most + (f", others ({rest})" if rest else "")]

    def _about_the_model(self) -> list[str]:
        name = self.recipe.model
        is_trained = name.startswith(flavor.URI_SCHEMES) or (expand("model", name) / SEEN_FILE).is_file()
        if not self.dataset.drawn or not is_trained:
            return []
        return [f"A training would keep the splits in which {name} has seen videos, which is not asked here"]

    def _bad_videos(self) -> list[str]:
        return [f"{fault['path']}: {fault['fault']}" for fault in self.videos.faults]

    def _training(self) -> Iterator[str]:
        recipe = self.recipe
        clips = clip_count(self.dataset, recipe)
        name = model.choose(recipe.model, demo=recipe.data == data.DEMO)
        known = model.clip_shape(name)
        shape = known or model.BASE_SHAPE
        store = clips * shape.values * BYTES[recipe.precision] / 2**30
        assumed = "" if known else f" if {name} is a ViT-L"
        yield f"{recipe.epochs} epochs read {clips} clips, with {name} in {recipe.precision}"
        yield f"their features take {store:.2f} GiB of store{assumed}"
        reading = self._reading_seconds(clips, recipe.sampling(shape.num_frames)) / usable_cpus()
        yield f"reading the clips takes about {_duration(reading)} on {usable_cpus()} CPUs, as the check read them"
        pace = known_pace(recipe)
        if pace is None:
            yield "encoding them comes on top: known once a training with that model has encoded clips here"
        else:
            took = _duration(max(reading, clips / pace))  # that pace is of whatever videos there were
            yield f"with encoding and training about {took}, none of them stored, at the pace of the last with {name}"

    def _reading_seconds(self, clips: int, sampling: video.Sampling) -> float:
        """Of one CPU. All clips of a video are read in one pass, which takes no longer than all of the video does."""
        views = clips / len(self.videos.findings)
        return sum(
            one.pace * min(views, max(1.0, sampling.clips_in(one.seconds, one.frames_per_second)))
            for one in self.videos.findings
        )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"


@own_temporaries()
def check(recipe: Recipe, *, reread: bool = False) -> Survey:
    """Reads a data set as a training would, and tells what there is to tell.

    Args:
        recipe: the fields named in `recipe.CHECKED` are used.
        reread: reads every video, also where its size and times are those that it had when it was read before.

    Raises:
        UserError: the data cannot be understood or split, or no video can be used.
    """
    model.check_name(recipe.model)
    listing = data.read_training_data(recipe.data, min_videos=recipe.min_videos)
    shape = model.clip_shape(model.choose(recipe.model, demo=recipe.data == data.DEMO)) or model.BASE_SHAPE
    inspections = video.inspect_videos(
        [sample.path for sample in listing.samples],
        recipe.sampling(shape.num_frames),
        cache_dir=video.video_cache_dir("disk"),
        reread=reread,
    )
    videos = VideoCheck.of(listing.samples, inspections)
    if not videos.usable:
        first = videos.faults[0]
        raise UserError(f"data={recipe.data}: no video can be used: {first['path']}: {first['fault']}")
    check_classes(recipe.data, listing.samples, videos.usable)
    return Survey(recipe, listing, videos, data.make_dataset(recipe.data, videos.usable, seed=recipe.seed))
