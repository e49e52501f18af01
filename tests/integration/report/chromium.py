"""Helpers for tests that look at a page."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Dialog, Page

OPEN = Callable[..., "Page"]
"""The fixture `open_page`: a path, and what Playwright's `new_page` takes."""


def await_(page: Page, expression: str, within: float = 30.0) -> Any:
    """Evaluate until true. Not `wait_for_function`: that needs eval, which the page's policy forbids."""
    end = time.monotonic() + within
    while not (value := page.evaluate(expression)):
        assert time.monotonic() < end, f"never true within {within} s: {expression}"
        page.wait_for_timeout(20)
    return value


def watch(page: Page, path: Path, troubles: list[str]) -> None:
    """Note what goes wrong in `page`: console, script errors, dialogs, requests for anything but `path`."""
    page.on("console", lambda message: troubles.append(f"console {message.type}: {message.text}"))
    page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    page.on("request", lambda request: _only(path, request.url, troubles))
    page.on("dialog", lambda dialog: _refuse(dialog, troubles))


def _only(path: Path, url: str, troubles: list[str]) -> None:
    if not url.startswith(path.as_uri()):
        troubles.append(f"request: {url}")


def _refuse(dialog: Dialog, troubles: list[str]) -> None:
    troubles.append(f"dialog: {dialog.message}")
    dialog.dismiss()
