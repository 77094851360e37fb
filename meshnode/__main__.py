"""`meshnode` and `python -m meshnode`: the command line's entry. Everything else is in cli."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run one command and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character gets a question mark, not a traceback.
            stream.reconfigure(errors="replace")
    from meshnode.cli.app import app

    app()


if __name__ == "__main__":
    main()
