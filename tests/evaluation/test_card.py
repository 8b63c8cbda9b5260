"""The model card, made by a real run, beside what the run says of itself."""

import re
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
from evaluations import predictions_of_hits, register_evaluator
from helpers import TEST_METRICS, readme_block
from huggingface_hub import ModelCard
from mlflow import MlflowClient

from vjepa_mlflow import Recipe, TrainingResult, train
from vjepa_mlflow.evaluation import TITLES, evaluate
from vjepa_mlflow.evaluation.card import _limits, summarize

SECTIONS = [
    "Model Details",
    "Model Description",
    "Model Sources",
    "Uses",
    "Direct Use",
    "Downstream Use",
    "Out-of-Scope Use",
    "Bias, Risks, and Limitations",
    "Recommendations",
    "How to Get Started with the Model",
    "Training Details",
    "Training Data",
    "Training Procedure",
    "Preprocessing",
    "Training Hyperparameters",
    "Training Configuration",
    "Speeds, Sizes, Times",
    "Evaluation",
    "Testing Data, Factors & Metrics",
    "Testing Data",
    "Factors",
    "Metrics",
    "Results",
    "Model Examination",
    "Environmental Impact",
    "Technical Specifications",
    "Model Architecture and Objective",
    "Compute Infrastructure",
    "Hardware",
    "Software",
    "Citation",
    "Glossary",
    "More Information",
    "Model Card Authors",
    "Model Card Contact",
]
"""Of the model card that the project follows."""


@pytest.fixture(scope="module")
def trained(module_tracking: Path, small_data: Path) -> TrainingResult:
    recipe = Recipe(
        data=str(small_data),
        model="tiny",
        epochs=2,
        learning_rate=1e-3,
        country="DEU",
        registered_model_name="motions",
    )
    return train(recipe)


@pytest.fixture(scope="module")
def card(trained: TrainingResult) -> ModelCard:
    folder = Path(mlflow.artifacts.download_artifacts(trained.model_uri))
    return ModelCard.load(folder / "README.md")


def section(card: ModelCard, name: str) -> str:
    """What stands between a heading and the next one."""
    (found,) = re.findall(rf"^#+ {re.escape(name)}\n(.*?)(?=^#|\Z)", card.text, re.MULTILINE | re.DOTALL)
    return found


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, pattern
    return float(found.group(1))


def test_it_has_every_section_and_nothing_is_left_open(card: ModelCard) -> None:
    without_code = re.sub(r"^```.*?^```", "", card.text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#{2,4} (.+)$", without_code, re.MULTILINE)
    assert [heading for heading in headings if heading in SECTIONS] == SECTIONS
    for name in SECTIONS:
        follows = without_code[without_code.index(f" {name}\n") + len(name) + 2 :].strip()
        assert follows, name
    assert not re.search(r"\{\{|\{%|None|nan|More Information Needed", without_code)


def test_its_metadata_are_the_runs(card: ModelCard, trained: TrainingResult) -> None:
    metrics = MlflowClient().get_run(trained.run_id).data.metrics
    assert card.data.library_name == "mlflow"  # so that the Hub shows no program of transformers', which would fail
    assert card.data.pipeline_tag == "video-classification"
    assert {f"test_{result.metric_type}": result.metric_value for result in card.data.eval_results} == {
        name: metrics[name] for name in TEST_METRICS
    }
    inputs = MlflowClient().get_run(trained.run_id).inputs.dataset_inputs
    (test,) = [used.dataset for used in inputs if used.tags[0].value == "test"]
    assert {result.dataset_revision for result in card.data.eval_results} == {test.digest}


def test_no_figure_differs_from_the_runs(card: ModelCard, trained: TrainingResult) -> None:
    client = MlflowClient()
    run = client.get_run(trained.run_id)
    results = rows(section(card, "Results"))
    found = {row[0]: row[1] for row in results if row[0] in TITLES.values()}
    assert found == {title: f"{run.data.metrics[f'test_{name}']:.4f}" for name, title in TITLES.items()}
    intervals = mlflow.load_table("test_metrics.json", run_ids=[trained.run_id]).set_index("metric")
    told = {row[0]: row[2] for row in results if row[0] in TITLES.values()}
    assert told == {title: f"{intervals.low[name]:.4f} to {intervals.high[name]:.4f}" for name, title in TITLES.items()}
    epochs = [row for row in results if row[0].isdigit()]
    for column, name in enumerate(("train_loss", "train_accuracy", "val_loss", "val_accuracy"), start=1):
        history = client.get_metric_history(trained.run_id, name)
        assert [row[column] for row in epochs] == [f"{point.value:.4f}" for point in history]

    recipe = dict(re.findall(r"^- \*\*([a-z_]+):\*\* (.+)$", section(card, "Training Hyperparameters"), re.MULTILINE))
    assert {name: run.data.params[name] for name in recipe} == recipe
    assert len(recipe) == 9
    configuration = section(card, "Training Configuration").replace(",", "")
    assert f"{run.data.params['trainable_parameters']} of {run.data.params['total_parameters']} " in configuration
    assert f"epoch {trained.best_epoch}, " in section(card, "Training Configuration")

    sets = {row[0]: row for row in rows(section(card, "Training Data")) if len(row) == 4}
    for used in run.inputs.dataset_inputs:
        split = used.tags[0].value
        assert sets[split][1] == run.data.params[f"{split}_videos"]
        assert sets[split][3] == f"`{used.dataset.digest}`"


def test_factors_and_classes_are_the_tables(card: ModelCard, trained: TrainingResult) -> None:
    slices = mlflow.load_table("test_slices.json", run_ids=[trained.run_id])
    told = rows(section(card, "Factors"))
    assert [row[3:5] for row in told if row[1:2] and "third" in row[1]] == [
        [str(row.videos), f"{row.accuracy:.4f}"] for row in slices.itertuples()
    ]
    classes = mlflow.load_table("test_classes.json", run_ids=[trained.run_id])
    assert [row[1:4] for row in told if "clockwise" in row[0]] == [
        [str(row.support), f"{row.precision:.4f}", f"{row.recall:.4f}"] for row in classes.itertuples()
    ]


def test_energy_and_time_are_the_runs(card: ModelCard, trained: TrainingResult) -> None:
    metrics = MlflowClient().get_run(trained.run_id).data.metrics
    impact = section(card, "Environmental Impact")
    assert "- **Compute Region:** DEU\n" in impact
    assert number(r"Energy:\*\* ([\d.]+) kWh", impact) == pytest.approx(metrics["energy_kwh"], abs=1e-6)
    assert number(r"Emitted:\*\* ([\d.]+) kg", impact) == pytest.approx(metrics["emissions_kg_co2eq"], abs=1e-6)
    assert number(r"Hours used:\*\* ([\d.]+)", impact) == pytest.approx(metrics["duration_seconds"] / 3600, abs=1e-4)
    times = section(card, "Speeds, Sizes, Times")
    assert number(r"Time:\*\* ([\d.]+) s", times) == pytest.approx(metrics["duration_seconds"], abs=0.05)


def test_the_citation_is_right(card: ModelCard) -> None:
    citation = section(card, "Citation")
    assert "arXiv:2506.09985" in citation
    assert "2301.08243" not in card.text  # another paper, which the public card gives
    assert "Self-Supervised Video Models Enable Understanding, Prediction and Planning" in citation


def test_its_programs_run(card: ModelCard, trained: TrainingResult, small_data: Path) -> None:
    Path("clip.mp4").write_bytes(next((small_data / "test").rglob("*.mp4")).read_bytes())
    programs = re.findall(r"^```python\n(.*?)^```", card.text, re.MULTILINE | re.DOTALL)
    assert len(programs) == 2
    for program in programs:
        exec(compile(program, "README.md", "exec"), {})


def test_mlflows_evaluation_in_the_readme_gives_the_same_figures(trained: TrainingResult, small_data: Path) -> None:
    register_evaluator()
    program = readme_block("python", "mlflow.models.evaluate").replace("/path/to/videos", str(small_data))
    names: dict = {}
    exec(program, names)
    found = {f"test_{name}": value for name, value in names["result"].metrics.items()}
    assert {name: found[name] for name in TEST_METRICS} == pytest.approx(
        {name: trained.metrics[name] for name in TEST_METRICS}, rel=1e-4
    )


def test_a_registered_version_carries_the_summary_and_the_figures(card: ModelCard, trained: TrainingResult) -> None:
    version = MlflowClient().get_model_version("motions", "1")
    assert version.description in card.text
    assert f"Test accuracy {trained.metrics['test_accuracy']:.4f}" in version.description
    assert {name: float(version.tags[name]) for name in TEST_METRICS} == {
        name: trained.metrics[name] for name in TEST_METRICS
    }


@pytest.mark.parametrize("groups", [3, 4])
def test_few_groups_are_told_in_place_of_an_interval(groups: int) -> None:
    predictions = predictions_of_hits(np.arange(40) % 5 > 0, np.arange(40) % groups)
    evaluation = evaluate([], predictions, [])
    train = SimpleNamespace(profile={"videos_by_class": {"a": 1, "b": 1}})
    record = SimpleNamespace(
        checkpoint=SimpleNamespace(name="tiny"), labels=["a", "b"], recipe=SimpleNamespace(data="videos"), best_epoch=1,
        epochs=[{}], seen_sentence="none of them known", datasets={"train": train}, drawn=[],
    )  # fmt: skip
    summary, (limit, *_) = summarize(record, evaluation), _limits(record, evaluation)
    if groups == 3:
        assert "Test accuracy 0.8000 (too few groups for a 95% interval) over 40 videos" in summary
        assert limit.startswith("It was tested on 40 videos, of too few groups to say where its accuracy")
    else:
        assert re.search(r"Test accuracy 0\.8000 \(95% interval 0\.\d{4} to [01]\.\d{4}\) over 40 videos", summary)
        assert re.search(r"may lie anywhere from 0\.\d{4} to [01]\.\d{4}, and on other kinds", limit)
