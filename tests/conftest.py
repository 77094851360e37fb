"""What every test starts from: logs as the library has them, whatever the test before configured, signals as a
terminal leaves them, and property tests that look at no clock."""

from __future__ import annotations

import signal

import pytest
import structlog
from hypothesis import HealthCheck, settings

# `nohup` and its like have SIGHUP ignored by what they start, and nodes heed that, as they should: tests that end one
# with it would wait for ever.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


# To hypothesis an example that took longer than 200 ms is a fault, and so are ten that took a second to make; how long
# they take is the machine's affair.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _logs_as_new() -> None:
    structlog.reset_defaults()
