"""What every test starts from: logs as the library has them, whatever the test before configured, and signals as a
terminal leaves them."""

from __future__ import annotations

import signal

import pytest
import structlog

# `nohup` and its like have SIGHUP ignored by what they start, and nodes heed that, as they should: tests that end one
# with it would wait for ever.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _logs_as_new() -> None:
    structlog.reset_defaults()
