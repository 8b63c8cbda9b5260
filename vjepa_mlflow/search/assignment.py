"""What one of a sweep's processes is to do, as it is sent to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from vjepa_mlflow import data, model, search, tracking
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.ranks import Share
from vjepa_mlflow.search.runner import TrialRunner
from vjepa_mlflow.search.setups import TrialSetups
from vjepa_mlflow.search.study_run import StudyRun
from vjepa_mlflow.stages.forms import Workload
from vjepa_mlflow.stages.names import check_names
from vjepa_mlflow.stages.prepare import Drawing, Preparation, Resumed, find_checkpoint, prepare


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
        resumed: what that run has from before, where the study goes on; None for a new one.
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
    resumed: Resumed | None = None
    share: Share = field(default_factory=Share)

    @classmethod
    def of(cls, run: StudyRun, plan: search.SweepPlan, recipe: Recipe, *, count: int) -> Assignment:
        """What all processes of a command are to do together.

        Args:
            run: the study and its MLflow run.
            plan: of the sweep.
            recipe: of its trials.
            count: trials that are to end.
        """
        import mlflow

        return cls(
            plan=plan,
            recipe=recipe,
            encoded=replace(recipe, epochs=plan.space.most("epochs", recipe)),
            count=count,
            storage=run.shared.url,
            study=run.shared.name,
            run_id=run.log.run_id,
            tracking_uri=mlflow.get_tracking_uri(),
            resumed=run.resumed,
        )

    def setups(self, shared: search.SharedStudy, log: tracking.RunLog | None = None) -> TrialSetups:
        """Where this process tries trials; it refuses data or a model that are not those of the others.

        Args:
            shared: the study.
            log: of the run that lists what is not used of the data; None where another process's does.
        """
        drawing = None if self.resumed and self.resumed.beginning else self.drawing()
        workload = Workload(self.count, self.plan.space.accumulation_sizes)

        def prepare_and_agree(recipe: Recipe) -> Preparation:
            prepared = prepare(
                recipe,
                check_names(recipe),
                log=log,
                resumed=self.resumed,
                drawing=drawing,
                workload=workload,
                share=self.share,
            )
            samples = [sample for samples in prepared.dataset.splits.values() for sample in samples]
            shared.agree("videos", data.describe_contents(samples))
            shared.agree(f"weights of {prepared.checkpoint.name}", prepared.checkpoint.revision)
            return prepared

        return TrialSetups(self.share, prepare_and_agree)

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
