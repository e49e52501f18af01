"""A real browser for the page, and pages to open in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.report.chromium import OPEN, await_, watch

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
]


def _absent(reason: str) -> None:
    """Skip, saying how to get it; on CI a page that nobody opened is a failure."""
    text = f"{reason}; get it with `apt-get install chromium` and `pip install playwright`"
    if os.environ.get("CI") == "true":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        _absent("no Chromium on PATH")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _absent("playwright is not installed")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OPEN]:
    """Open a file and wait until it is painted; afterwards fail on any script error or policy violation."""
    troubles: list[str] = []
    opened: list[Page] = []

    def open_(
        path: Path, *, painted: bool = True, watched: bool = True, fragment: str = "", **settings: Any
    ) -> Page:
        settings.setdefault("viewport", {"width": 1280, "height": 900})
        page = browser.new_page(**settings)
        opened.append(page)
        if watched:
            watch(page, path, troubles)
        page.goto(path.as_uri() + fragment)
        if painted and watched:
            await_(page, "performance.getEntriesByName('painted').length")
        return page

    yield open_
    for page in opened:
        page.close()
    assert troubles == []
