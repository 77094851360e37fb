"""Breaks a rule in a copy of the tree, runs the tests that should notice, and reads who did.

Not for telling people (__main__.py). The working tree is only read.
"""

from __future__ import annotations

import enum
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutant import PACKAGE, Mutant

ROOT = Path(__file__).parents[2]
COPIED = (PACKAGE, "tests", "benchmarks", "pyproject.toml")

MOST_S = 300.0
"""For one mutant: a hundred times what most need. One that hangs its tests is noticed by nobody's assertion."""

_FAILED = 1
"""pytest's exit status when tests ran and some failed; 0: none did."""

_NAMED = re.compile(r"^(?:FAILED|ERROR) (\S+\.py::.*?)(?: - .*)?$", re.MULTILINE)


class Outcome(enum.Enum):
    """How a mutant fared."""

    CAUGHT = "caught"
    SURVIVED = "SURVIVED"
    HUNG = "HUNG"
    """The tests came to no end: not counted as caught."""
    BROKEN = "BROKEN"
    """No test ran, so that nothing was shown."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`by`: the first test that failed; for BROKEN, the end of what pytest said."""

    outcome: Outcome
    by: str
    wall_s: float


def judge(mutant: Mutant) -> Verdict:
    """Whether the mutant's tests notice it. Raises Rotten."""
    with copied() as root:
        mutant.apply(root)
        return run(root, mutant.tests)


def judge_none(tests: Iterable[str]) -> Verdict:
    """The same tests with every rule in force: SURVIVED is what should come of it."""
    with copied() as root:
        whose = subprocess.run(
            [sys.executable, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)"],
            cwd=root, env=_environment(root), check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        if not Path(whose).is_relative_to(root):
            return Verdict(Outcome.BROKEN, f"the tests would run {whose}, not the copy", 0.0)
        return run(root, sorted(set(tests)))


def run(root: Path, tests: Iterable[str]) -> Verdict:
    """pytest in the tree at `root`, to the first failure."""
    # The same examples each time: what is caught today is caught tomorrow.
    plugins = ("-p", "no:cacheprovider", "-p", "tests.mutants.quick", "--hypothesis-seed=0")
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "--tb=no", "-rfE", *plugins, *tests],
            cwd=root, env=_environment(root), check=False, capture_output=True, text=True, timeout=MOST_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Verdict(Outcome.HUNG, f"no end within {MOST_S:.0f} s", time.monotonic() - began)
    outcome, by = read(done.returncode, done.stdout + done.stderr)
    return Verdict(outcome, by, time.monotonic() - began)


def read(status: int, said: str) -> tuple[Outcome, str]:
    """What pytest's exit status and words mean."""
    if status == 0:
        return Outcome.SURVIVED, ""
    named = _NAMED.search(said)
    if status == _FAILED and named is not None:
        return Outcome.CAUGHT, named[1]
    return Outcome.BROKEN, said.strip()[-600:]


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of what tests need, gone at the end. Compiled modules come along: dates are kept."""
    with tempfile.TemporaryDirectory(prefix="meshnode-mutant-") as folder:
        root = Path(folder).resolve()
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, root / name)
            else:
                shutil.copy2(ROOT / name, root / name)
        yield root


def _environment(root: Path) -> dict[str, str]:
    """Children of tests import the copy too, and not the tree that is installed."""
    return {**os.environ, "PYTHONPATH": str(root)}
