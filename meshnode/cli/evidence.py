"""The verbs of trust: `receipts …`, `weights …`, `attest …`. As verbs.py, they import what they need when called.

Not for what a verb does: that is one call into receipts.py, weights.py or attest.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meshnode.cli.options import HomeOption, JsonOption
from meshnode.cli.outcome import reported
from meshnode.cli.verbs import _CONTEXT, _PLAIN

receipts = typer.Typer(**_PLAIN, context_settings=_CONTEXT, no_args_is_help=True)  # type: ignore[arg-type] # as verbs

Which = Annotated[str, typer.Argument(metavar="FILE|ID", help="An exported file, or a request's id or number here.")]


@receipts.callback()
def receipts_options() -> None:
    """What servers signed for this node's requests: kept for a week, checked offline."""


@receipts.command("list")
def receipts_list(
    limit: Annotated[int, typer.Option("-n", min=1, max=100_000, help="How many, the newest first.")] = 20,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """The last receipts, and whether each held."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import receipts as doing

        doing.listed(place.place(home), limit, as_json)


@receipts.command("export")
def receipts_export(
    which: Annotated[str, typer.Argument(metavar="ID", help="A request's id, or a number of `receipts list`.")],
    home: HomeOption = None,
) -> None:
    """Print a receipt as a file that anybody can verify."""
    from meshnode.cli import place

    with reported():
        from meshnode.cli import receipts as doing

        doing.export(place.place(home), which)


@receipts.command("verify")
def receipts_verify(
    which: Which,
    request: Annotated[Path | None, typer.Option(metavar="FILE", help="The request's body, to compare.")] = None,
    answer: Annotated[Path | None, typer.Option(metavar="FILE", help="The answer's body, to compare.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a receipt's signature, and what it was given for. Exit code 1 when it does not hold."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import receipts as doing

        doing.verify(place.place(home), which, request, answer, as_json)
