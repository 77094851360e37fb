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

weights = typer.Typer(**_PLAIN, context_settings=_CONTEXT, no_args_is_help=True)  # type: ignore[arg-type] # as verbs
attest = typer.Typer(**_PLAIN, context_settings=_CONTEXT, no_args_is_help=True)  # type: ignore[arg-type] # as verbs

Weights = Annotated[Path, typer.Argument(metavar="PATH", exists=True, help="A file of weights, or a folder of them.")]
KeyFile = Annotated[Path, typer.Option("--key", metavar="FILE", help="The operator's key (`meshnode attest key`).")]

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


@weights.callback()
def weights_options() -> None:
    """Say with a signature which files a model's weights are, and check it."""


@weights.command("sign")
def weights_sign(
    path: Weights,
    model: Annotated[str, typer.Option(metavar="NAME", help="What people call the model.")] = "",
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="An operator's key instead of this node's.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hash the files and put a signed manifest beside them."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import weights as doing

        doing.sign(place.place(home), path, model or path.stem, key, as_json)


@weights.command("verify")
def weights_verify(
    path: Weights,
    signer: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Whose word counts, besides trust.signers and this node's.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that the files are those that were signed. Exit code 1 when they are not."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import weights as doing

        doing.verify(place.place(home), path, signer or [], as_json)


@attest.callback()
def attest_options() -> None:
    """Statements of an operator that a node is set up as it should be: sensitive requests go only to such nodes."""


@attest.command("key")
def attest_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, to be kept safe.")],
    as_json: JsonOption = False,
) -> None:
    """Make an operator's key."""
    with reported(as_json):
        from meshnode.cli import attest as doing

        doing.make_key(file, as_json)


@attest.command("sign")
def attest_sign(
    node: Annotated[str, typer.Argument(metavar="NODE", help="The node's whole id (`meshnode mesh show` there).")],
    key: KeyFile,
    text: Annotated[str, typer.Option("--says", metavar="TEXT", help="What is true of the node.")] = "",
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it holds.")] = 365,
    as_json: JsonOption = False,
) -> None:
    """Print a statement on a node, one line, for `meshnode attest keep` there. It is no secret."""
    with reported(as_json):
        from meshnode.cli import attest as doing

        doing.sign(node, key, text, days, as_json)


@attest.command("keep")
def attest_keep(
    statement: Annotated[str, typer.Argument(metavar="STATEMENT", help="The line that `attest sign` printed.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep an operator's statement on this node, to be shown to whoever asks."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import attest as doing

        doing.keep(place.place(home), statement, as_json)
