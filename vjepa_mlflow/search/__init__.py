"""A search space and a study that processes and machines share."""

from typing import TYPE_CHECKING

from vjepa_mlflow.lazy import load_when_used

if TYPE_CHECKING:
    from vjepa_mlflow.search.figures import plot_epochs, plot_history, plot_importances, plot_pair
    from vjepa_mlflow.search.plan import SweepPlan, check_count, read_plan
    from vjepa_mlflow.search.progress import TrialProgress
    from vjepa_mlflow.search.queue import TrialQueue
    from vjepa_mlflow.search.running import RunningTrial, TakenOverError
    from vjepa_mlflow.search.study import METRICS, SharedStudy, best_trial, default_storage, define
    from vjepa_mlflow.search.tables import BEST_EPOCH, SECONDS, compare, describe_trial, trial_rows
    from vjepa_mlflow.search.trials import SweepTrial

__getattr__ = load_when_used(__name__)
