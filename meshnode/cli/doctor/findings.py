"""What a check of `doctor` says. Written by checks.py and reach.py, read by show.py."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from meshnode.cli.doctor.facts import Facts


class Result(enum.StrEnum):
    PASS = "PASS"  # noqa: S105 - no password
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `fix` is empty for a PASS."""

    name: str
    result: Result
    detail: str
    fix: str = ""


Check = Callable[[Facts], Iterator[Finding]]


def sound(findings: Sequence[Finding]) -> bool:
    """Whether nothing failed."""
    return all(finding.result is not Result.FAIL for finding in findings)
