"""A real browser for the page, and pages to open in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.report.chromium import OPEN, await_

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

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


def _only(path: Path, url: str, troubles: list[str]) -> None:
    if not url.startswith(path.as_uri()):
        troubles.append(f"request: {url}")


def _refuse(dialog: Dialog, troubles: list[str]) -> None:
    troubles.append(f"dialog: {dialog.message}")
    dialog.dismiss()


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
        if not watched:
            page.goto(path.as_uri())
            return page
        page.on("console", lambda message: troubles.append(f"console {message.type}: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("request", lambda request: _only(path, request.url, troubles))
        page.on("dialog", lambda dialog: _refuse(dialog, troubles))
        page.goto(path.as_uri() + fragment)
        if painted:
            await_(page, "performance.getEntriesByName('painted').length")
        return page

    yield open_
    for page in opened:
        page.close()
    assert troubles == []
