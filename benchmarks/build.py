"""Compiles the fake engine and the load generator, once per change of their source, into benchmarks/build/.

Not for anything that meshnode itself needs: it has no compiled part.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent / "native"
BUILD = Path(__file__).parent / "build"


class BenchError(Exception):
    """The benchmark cannot go on; the text is for the person who started it."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The two compiled programs."""

    engine: Path
    load: Path


def compiler() -> str | None:
    """The C compiler to use: `$CC`, or the first of cc, gcc, clang on the path; None where there is none."""
    named = os.environ.get("CC")
    candidates = [named] if named else ["cc", "gcc", "clang"]
    return next((found for name in candidates if (found := shutil.which(name))), None)


def tools(build: Path = BUILD) -> Tools:
    """Both programs, compiled when absent or older than their source. Raises BenchError without a compiler."""
    return Tools(engine=_program("engine", build), load=_program("load", build))


def _program(name: str, build: Path) -> Path:
    source, program = SOURCES / f"{name}.c", build / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    cc = compiler()
    if cc is None:
        raise BenchError(
            "the benchmark compiles two small C programs and found no compiler: install gcc or clang, or set CC"
        )
    build.mkdir(parents=True, exist_ok=True)
    fresh = build / f".{name}.{os.getpid()}"
    command = [cc, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-o", str(fresh), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{cc} could not compile {source.name} (it needs Linux: epoll):\n{done.stderr}")
    fresh.replace(program)
    return program
