"""What is filled in to the report and to the model card."""

from collections.abc import Iterator

import pytest
from evaluations import random_predictions
from jinja2 import DictLoader, UndefinedError

from vjepa_mlflow.evaluation import TITLES, Evaluation, evaluate, templates
from vjepa_mlflow.metrics import METRICS


@pytest.fixture
def evaluation() -> Evaluation:
    return evaluate([f"{row}.mp4" for row in range(20)], random_predictions(videos=20, classes=3), [])


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Templates of the test's own, by name."""
    texts: dict[str, str] = {}
    templates._environment.cache_clear()
    monkeypatch.setattr(templates, "PackageLoader", lambda *_: DictLoader(texts))
    yield texts
    templates._environment.cache_clear()


def test_names_are_escaped_in_html_and_left_in_text(evaluation: Evaluation, texts: dict[str, str]) -> None:
    texts.update({"a.html": "{{ text }}\n", "a.md": "{{ text }}\n"})
    assert templates.fill("a.html", evaluation, filters={}, text="<b>&'") == "&lt;b&gt;&amp;&#39;\n"
    assert templates.fill("a.md", evaluation, filters={}, text="<b>&'") == "<b>&'\n"


def test_what_is_not_given_is_an_error_and_no_gap(evaluation: Evaluation, texts: dict[str, str]) -> None:
    texts["a.md"] = "{{ missing }}"
    with pytest.raises(UndefinedError, match="missing"):
        templates.fill("a.md", evaluation, filters={})


def test_every_template_knows_the_metrics_and_their_meanings(evaluation: Evaluation, texts: dict[str, str]) -> None:
    texts["a.md"] = "{% for name in evaluation.metrics %}{{ titles[name] }}: {{ meanings[name]|loud }}\n{% endfor %}"
    lines = templates.fill("a.md", evaluation, filters={"loud": str.upper}).splitlines()
    assert lines == [f"{title}: {METRICS[name].meaning.upper()}" for name, title in TITLES.items()]
