"""Helpers for tests that look at a page."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

OPEN = Callable[..., "Page"]
"""The fixture `open_page`: a path, and what Playwright's `new_page` takes."""


def await_(page: Page, expression: str, within: float = 30.0) -> Any:
    """Evaluate until true. Not `wait_for_function`: that needs eval, which the page's policy forbids."""
    end = time.monotonic() + within
    while not (value := page.evaluate(expression)):
        assert time.monotonic() < end, f"never true within {within} s: {expression}"
        page.wait_for_timeout(20)
    return value
