"""What every test starts from: logs as the library has them, whatever the test before configured."""

from __future__ import annotations

import pytest
import structlog


@pytest.fixture(autouse=True)
def _logs_as_new() -> None:
    structlog.reset_defaults()
