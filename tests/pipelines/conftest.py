"""A real browser for the pages that people read."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Visit:
    """What a browser saw on one page."""

    figures: list[dict[str, Any]] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    overflow_px: int = 0
    state: str = ""


# Per figure: its title, the size of its drawing and how many marks have an area or a stroke on it.
LOOK_AT_FIGURES = """() => [...document.querySelectorAll("figure")].map((figure) => {
  const svg = figure.querySelector(".plot svg");
  const box = svg ? svg.getBoundingClientRect() : { width: 0, height: 0 };
  const marks = svg ? [...svg.querySelectorAll("g.mark-group.role-frame [role=graphics-symbol], .role-mark path, "
    + ".role-mark line, .role-mark rect, .role-mark text")].filter((mark) => {
      const drawn = mark.getBBox ? mark.getBBox() : { width: 0, height: 0 };
      return drawn.width > 0 || drawn.height > 0;
    }).length : 0;
  return { title: figure.querySelector("h3").textContent, width: box.width, height: box.height, marks };
})"""


# Not for the session: playwright keeps an event loop running in this thread, under which asyncio.run refuses to work.
@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Visit]]:
    """Open a page in Chromium and report what was drawn, logged and asked of the network."""
    sync_api = pytest.importorskip("playwright.sync_api")
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        pytest.skip("no Chromium on this machine: install chromium to see the reports drawn")
    with sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("browser"), executable_path=executable, headless=True, args=BROWSER_FLAGS
        )

        def open_page(path: Path, *, dark: bool = False, width: int = 1280, screenshot: Path | None = None) -> Visit:
            seen = Visit()
            page = context.new_page()
            page.emulate_media(color_scheme="dark" if dark else "light")
            page.set_viewport_size({"width": width, "height": 900})
            page.on("console", lambda message: seen.console.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: seen.console.append(f"pageerror: {error}"))
            page.on("request", lambda request: seen.requests.append(request.url))
            page.goto(path.resolve().as_uri())
            page.wait_for_function("document.documentElement.dataset.charts !== 'drawing'", timeout=60_000)
            seen.state = page.evaluate("document.documentElement.dataset.charts")
            seen.figures = page.evaluate(LOOK_AT_FIGURES)
            seen.overflow_px = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            seen.requests = [url for url in seen.requests if url != path.resolve().as_uri() and url[:5] != "data:"]
            if screenshot:
                page.screenshot(path=screenshot, full_page=True)
            page.close()
            return seen

        yield open_page
        context.close()
