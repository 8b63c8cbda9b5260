"""A real browser without a window, and what it says of a page."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


def find_browser() -> str | None:
    """Debian's Chromium, which `apt-get install chromium` brings."""
    return shutil.which("chromium") or shutil.which("google-chrome")


@dataclass(frozen=True)
class Visit:
    """What happened when a page was opened.

    Attributes:
        errors: on the console, or thrown.
        requests: for anything but the page itself and what is written into it.
        width: of the page's content in pixels.
        metrics: values by name, of the elements that carry one.
        text: that is to be read.
        broken: pictures that cannot be shown.
    """

    errors: list[str]
    requests: list[str]
    width: int
    metrics: dict[str, float]
    text: str
    broken: int


@contextmanager
def browser_visits() -> Iterator["Browser"]:
    """Starts a browser; skips where there is none."""
    api = pytest.importorskip("playwright.sync_api")
    program = find_browser()
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield Browser(chromium)
        chromium.close()


class Browser:
    """Opens pages as wide as a screen or as a phone."""

    def __init__(self, chromium) -> None:
        self._chromium = chromium

    def visit(self, path: Path, *, width: int = 1280) -> Visit:
        errors: list[str] = []
        requests: list[str] = []
        page = self._chromium.new_page(viewport={"width": width, "height": 844})
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.resolve().as_uri())
        metrics = page.eval_on_selector_all(
            "[data-metric]", "nodes => nodes.map(node => [node.dataset.metric, Number(node.dataset.value)])"
        )
        visit = Visit(
            errors=errors,
            requests=[url for url in requests if url != path.resolve().as_uri() and not url.startswith("data:")],
            width=page.evaluate("document.documentElement.scrollWidth"),
            metrics=dict(metrics),
            text=page.inner_text("body"),
            broken=page.eval_on_selector_all("img", "nodes => nodes.filter(node => !node.naturalWidth).length"),
        )
        page.close()
        return visit
