"""How `doctor` is read: a line for each check and under it what mends it, or one JSON document. Not for judging."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

from meshnode.cli import say
from meshnode.cli.doctor.findings import Finding, Result, sound

_COLOURS = {Result.PASS: "\x1b[32m", Result.WARN: "\x1b[33m", Result.FAIL: "\x1b[31m"}
_PLAIN = "\x1b[39m"
NAME_WIDTH = 12


def show(findings: Sequence[Finding], *, running: bool, as_json: bool) -> None:
    """Print every finding, and how many there are of each kind."""
    if as_json:
        checks = [
            {"name": one.name, "result": one.result.value, "detail": one.detail, "fix": one.fix} for one in findings
        ]
        return say.write_json({"checks": checks, "ok": sound(findings), "running": running})
    for one in findings:
        print(f"{_word(one.result)}  {say.clean(f'{one.name.ljust(NAME_WIDTH)}  {one.detail}', keep='')}")
        if one.fix:
            print(f"{' ' * (NAME_WIDTH + 8)}{say.clean(f'fix: {one.fix}', keep='')}")
    counts = Counter(one.result for one in findings)
    return print("\n" + ", ".join(f"{counts[result]} {result.lower()}" for result in Result))


def _word(result: Result) -> str:
    return f"{_COLOURS[result]}{result}{_PLAIN}" if sys.stdout.isatty() else str(result)
