"""How commands speak: errors, JSON, tables, and words that came from other machines.

Tables are drawn with rich only on a terminal; elsewhere they are plain aligned text that other programs cut.
Not for log lines (observe.log).
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from meshnode.errors import ConfigError, MeshnodeError, RequestError

FAILED = 1
"""Exit code of a command that could not do what was asked; 2 is typer's for a command line that makes no sense."""
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def write_error(error: MeshnodeError, as_json: bool) -> None:
    """`meshnode: message`, or `{"error": {…}}` where the caller asked for JSON."""
    if as_json:
        described: dict[str, Any] = {"message": str(error), "type": type(error).__name__}
        if isinstance(error, RequestError):
            described["code"] = error.code
        print(json.dumps({"error": described}), file=sys.stderr, flush=True)
        return
    text = clean(str(error))
    if isinstance(error, ConfigError) and len(error.faults) > 1:
        text = "\n  ".join(["the configuration cannot be used:", *map(clean, error.faults)])
    print(f"meshnode: {text}", file=sys.stderr, flush=True)


def write_json(document: Any) -> None:
    """One document: indented for eyes on a terminal, one line for programs."""
    print(json.dumps(document, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def clean(text: str, keep: str = "\n") -> str:
    """Text from another machine without what could steer the terminal it is shown on."""
    return "".join(char for char in text if char.isprintable() or char in keep)


def write_table(columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """A table of rows; `empty` is said when there is none."""
    rows = [[clean(cell, keep="") for cell in row] for row in rows]
    if not rows:
        print(empty)
    elif sys.stdout.isatty():
        _draw(columns, rows)
    else:
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        for row in (columns, *rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def command(*words: str, home: Path | None = None) -> str:
    """A command line that works when typed where this one was typed: `.venv/bin/meshnode run …` after `make run`."""
    place = () if home is None else ("--home", str(home))
    return " ".join([_program(), *(shlex.quote(word) for word in (*words, *place))])


def _program() -> str:
    called = Path(sys.argv[0])
    if called.parts[-2:] == ("meshnode", "__main__.py"):
        # `up` runs as a module (lean.py), and so do those who like to: the script lies beside the interpreter.
        script = Path(sys.executable).with_name("meshnode")
        if not script.exists():
            return f"{shlex.quote(_from_here(Path(sys.executable)))} -m meshnode"
        called = script
    found = shutil.which("meshnode")
    if found is not None and called.exists() and Path(found).samefile(called):
        return "meshnode"
    if called.name == "meshnode":
        return shlex.quote(_from_here(called))
    return "meshnode"


def _from_here(path: Path) -> str:
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def discard(stream: TextIO) -> None:
    """Send what is still written to `stream` nowhere, the interpreter's own last flush included."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class Steady:
    """A text stream whose reader may leave: a node outlives the terminal or pipe it writes its lines to.

    `before` is called ahead of each write: whoever draws on the same terminal takes away what is half drawn.
    """

    def __init__(self, stream: TextIO, before: Callable[[], None] | None = None) -> None:
        self._stream = stream
        self._before = before

    def write(self, text: str) -> int:
        """Write, or from now on write nowhere."""
        if self._before is not None:
            self._before()
        try:
            return self._stream.write(text)
        except OSError:
            discard(self._stream)
            return len(text)

    def flush(self) -> None:
        """Flush, or from now on write nowhere."""
        try:
            self._stream.flush()
        except OSError:
            discard(self._stream)

    def isatty(self) -> bool:
        """Whether people are looking."""
        return self._stream.isatty()
