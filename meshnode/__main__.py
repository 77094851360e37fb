"""`meshnode` and `python -m meshnode`: the command line's entry. Everything else is in cli."""

from __future__ import annotations

import io
import os
import sys


def main() -> None:
    """Run one command and exit with its code."""
    try:
        _run()
    except KeyboardInterrupt:
        # While modules were still being imported: what a shell expects, and no traceback.
        sys.exit(130)


def _run() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Closed by whoever started us. Something must stand there, or the first socket would get its number.
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as the process lives
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character gets a question mark, not a traceback.
            stream.reconfigure(errors="replace")
    launch = os.environ.pop("MESHNODE_LAUNCH", None)
    if launch is not None:
        from meshnode.cli.lean import serve

        sys.exit(serve(launch))
    from meshnode.cli import app

    app.in_a_process_of_its_own = True
    app.app()


if __name__ == "__main__":
    main()
