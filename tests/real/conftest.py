"""The embedded model's file, shared by every test of this machine, and what nodes said beside a test that failed."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.engine.conftest import model_folder
from tests.real.kit import NodeProcess

__all__ = ["model_folder"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections += [(f"said by {node.name}", str(node)) for node in NodeProcess.started]
    return report
