"""How a command ends: this package's errors become one message and an exit code. Not for the words (say)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from meshnode.cli import say
from meshnode.errors import MeshnodeError


@contextmanager
def reported(as_json: bool = False) -> Iterator[None]:
    """Turn this package's errors into one message on standard error and exit code 1."""
    try:
        yield
    except MeshnodeError as error:
        say.write_error(error, as_json)
        raise typer.Exit(say.FAILED) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(say.INTERRUPTED) from error
    except BrokenPipeError as error:
        # Whoever read us has enough: `meshnode peers | head -1` is no failure worth a traceback.
        say.discard(sys.stdout)
        raise typer.Exit(say.FAILED) from error
    except OSError as error:
        # A full disk behind standard output, an interpreter that may not be run again: nothing a traceback explains.
        say.discard(sys.stdout)
        text = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        say.write_error(MeshnodeError(text), as_json)
        raise typer.Exit(say.FAILED) from error
