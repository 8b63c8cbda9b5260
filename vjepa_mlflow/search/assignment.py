"""What one of a sweep's processes is to do, as it is sent to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from vjepa_mlflow import data, model, search, tracking
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.ranks import Share
from vjepa_mlflow.search.runner import TrialRunner
from vjepa_mlflow.search.setups import TrialSetups
from vjepa_mlflow.stages.forms import choose_forms
from vjepa_mlflow.stages.prepare import Drawing, Fault, Preparation, check_names, find_checkpoint, prepare


@dataclass(frozen=True)
class Assignment:
    """What one of several processes is to do.

    Attributes:
        plan: of the sweep.
        recipe: of its trials.
        encoded: the recipe whose features are encoded first.
        count: trials that are to end.
        storage: URL of the study's.
        study: its name.
        run_id: the MLflow run that holds the study.
        tracking_uri: MLflow's.
        params: of that run, where the study goes on; None where it begins.
        began: what the study began with, where it goes on.
        share: this process's among those of this command.
    """

    plan: search.SweepPlan
    recipe: Recipe
    encoded: Recipe
    count: int
    storage: str
    study: str
    run_id: str
    tracking_uri: str
    params: Mapping[str, str] | None = None
    began: data.Beginning | None = None
    share: Share = field(default_factory=Share)

    def setups(
        self, shared: search.SharedStudy, on_faults: Callable[[list[Fault]], None] = lambda _: None
    ) -> TrialSetups:
        """Where this process tries trials; it refuses data or a model that are not those of the others.

        Args:
            shared: the study.
            on_faults: is given the videos that cannot be used.
        """
        drawing = None if self.began else self.drawing()

        def prepare_and_agree(recipe: Recipe) -> Preparation:
            prepared = prepare(
                recipe,
                check_names(recipe),
                began=self.began,
                drawing=drawing,
                on_faults=on_faults,
                share=self.share,
            )
            samples = [sample for samples in prepared.dataset.splits.values() for sample in samples]
            shared.agree("videos", data.describe_contents(samples))
            shared.agree(f"weights of {prepared.checkpoint.name}", prepared.checkpoint.revision)
            return prepared

        sizes = self.plan.space.accumulation_sizes
        choose = partial(choose_forms, trials=self.count, accumulation_sizes=sizes, resumed=self.params)
        return TrialSetups(self.share, prepare=prepare_and_agree, choose_forms=choose)

    def drawing(self) -> Drawing:
        """How missing splits are drawn, the same for all trials, so that one validation set compares them.

        The baseline's seed draws, and what any of the models that are tried has seen keeps its split.
        """
        models = self.plan.space.values("model", self.recipe)
        if len(models) == 1:
            return Drawing(self.recipe.seed)
        seen = [find_checkpoint(replace(self.recipe, model=name))[1] for name in models]
        return Drawing(self.recipe.seed, data.joint_role([videos for videos in seen if videos is not None]))

    def queue(self, shared: search.SharedStudy) -> search.TrialQueue:
        return shared.queue(self.plan, self.recipe, count=self.count, on_interrupted=self._end_run)

    def runner(
        self,
        shared: search.SharedStudy,
        setups: TrialSetups,
        *,
        stopping: Callable[[], bool],
        look: Callable[[], None] = lambda: None,
    ) -> TrialRunner:
        return TrialRunner(self.queue(shared), self.plan, self.recipe, setups, self.run_id, stopping, look)

    def for_process(self, rank: int, world_size: int) -> Assignment:
        """The same for one of several processes, with a GPU of its own as far as there are enough."""
        import torch

        def placed(recipe: Recipe) -> Recipe:
            device = model.choose_device(recipe.device)
            if world_size > 1 and device.type == "cuda" and recipe.device in ("auto", "cuda"):
                return replace(recipe, device=f"cuda:{rank % torch.cuda.device_count()}")
            return recipe

        return replace(self, recipe=placed(self.recipe), encoded=placed(self.encoded), share=Share(rank, world_size))

    def _end_run(self, trial: int) -> None:
        run_id = tracking.find_trial_run(self.run_id, trial)
        if run_id is not None:  # else it was interrupted before it had one
            tracking.end_trial_run(run_id, "INTERRUPTED")
