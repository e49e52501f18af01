"""The two kernels of the engine, for tests that must hold of both."""

from __future__ import annotations

import os

import pytest

from harness.checkers import native


@pytest.fixture(params=["native", "python"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of them judges in this test."""
    if request.param == "python":
        monkeypatch.setattr(native, "KERNEL", None)
    elif native.kernel() != "native":
        why = "the native kernel was not built: pip install -e . where there is a C compiler"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return str(request.param)
