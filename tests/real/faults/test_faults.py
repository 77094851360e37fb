"""Eight real nodes under faults: every request ends once and in time, and those that can be answered are.

All faults and fewer requests than `make faults` has, of one seed, so that whether a change passes is not luck and CI
can bear it. How long a failover took is told and not asserted: on a busy machine it is that one's.
"""

from __future__ import annotations

from functools import partial

import pytest
import trio

from tests.real.faults.judge import SUCCESS
from tests.real.faults.plan import draw
from tests.real.faults.report import report
from tests.real.faults.run import Result, run
from tests.real.kit import say

pytestmark = pytest.mark.real

SEED, NODES, FAULTS, REQUESTS = 3, 8, 60, 600

OPEN_FILES = 48
"""Above those of a node at rest: seven links, some kept connections to its engine, its clients' last."""

MEMORY_MB = 40.0
"""Above what a node at rest takes: answers that are remembered, measurements, the journal."""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    plan = draw(SEED, NODES, FAULTS, REQUESTS)
    made = trio.run(partial(run, plan, tmp_path_factory.mktemp("faults")))
    say(report(made))
    return made


def test_every_request_ends_once_and_in_time_with_an_answer_or_a_typed_error(result: Result) -> None:
    assert len(result.outcomes) == REQUESTS
    assert not result.verdict.broken, report(result)


def test_ninety_nine_in_a_hundred_are_answered_while_somebody_can(result: Result) -> None:
    assert result.verdict.counted > REQUESTS / 2
    assert result.verdict.success >= SUCCESS, report(result)


def test_nothing_is_left_of_it(result: Result) -> None:
    assert not result.held and not result.left, report(result)
    for (files, megabytes), (files_after, megabytes_after) in zip(result.before, result.after, strict=True):
        assert files_after <= files + OPEN_FILES
        assert megabytes_after <= megabytes + MEMORY_MB


def test_every_fault_happened(result: Result) -> None:
    assert len(result.spans) == FAULTS
