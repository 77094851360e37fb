"""The verbs and their options. Every import of weight stands inside its verb: `meshnode --help` must answer at once.

Not for what a verb does: that is one call into its module. Exit codes: 0 done, 1 failed, 2 a command line that makes
no sense, 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from meshnode.cli import evidence, key_verbs, say, verbs
from meshnode.cli.options import ApiOption, EngineChoice, HomeOption, JsonOption, LogFormat, LogLevel, TrustChoice
from meshnode.cli.outcome import reported

app = typer.Typer(
    name="meshnode",
    help="One local endpoint for language models, every machine of yours behind it.",
    no_args_is_help=True,
    add_completion=False,
    # Plain help: rich alone would take longer to import than everything else takes to run.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


in_a_process_of_its_own = False
"""Whether `up` may replace this process: set by `meshnode.__main__`, which is all there is in it."""


def _version(wanted: bool) -> None:
    if wanted:
        print(f"meshnode {version_text()}")
        raise typer.Exit


def version_text() -> str:
    """The installed version."""
    from importlib.metadata import version as installed

    return installed("meshnode")


@app.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """One local endpoint for language models, every machine of yours behind it."""


@app.command()
def up(
    home: HomeOption = None,
    api: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where tools reach this node.")] = None,
    mesh: Annotated[str | None, typer.Option(metavar="HOST:PORT|none", help="Where other nodes reach it.")] = None,
    peer: Annotated[list[str] | None, typer.Option(metavar="HOST:PORT", help="Dial this node; repeatable.")] = None,
    no_mdns: Annotated[
        bool, typer.Option("--no-mdns", help="Neither announce nor look for nodes by multicast.")
    ] = False,
    trust: Annotated[TrustChoice | None, typer.Option(help="Who is believed to be a member.")] = None,
    engines: Annotated[list[EngineChoice] | None, typer.Option(help="Engines to use; repeatable.")] = None,
    engine_url: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="An OpenAI-compatible server to use; repeatable.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What people read in lists; the host's name if not given.")] = None,
    log_format: Annotated[
        LogFormat, typer.Option(help="Lines for people, or one JSON object a line.")
    ] = LogFormat.text,
    log_level: Annotated[LogLevel, typer.Option(help="The least that is logged.")] = LogLevel.info,
    hello: Annotated[bool, typer.Option("--hello", help="Ask a model one question once it is ready.")] = False,
) -> None:
    """Start this machine's node. Ctrl-C lets answers in flight finish and stops it; a second one stops it at once."""
    as_json = log_format is LogFormat.json
    flags: dict[str, dict[str, Any]] = {
        "front": {"api": api},
        "mesh": {
            "listen": mesh,
            "peers": tuple(peer or ()) or None,
            "mdns": False if no_mdns else None,
            "trust": trust.value if trust is not None else None,
        },
        "engine": {
            "engines": tuple(choice.value for choice in engines or ()) or None,
            "urls": tuple(engine_url or ()) or None,
        },
        "node": {"name": name},
    }
    given = {section: {k: v for k, v in table.items() if v is not None} for section, table in flags.items()}
    for option, addresses in (("--api", [api]), ("--mesh", [mesh]), ("--peer", peer or [])):
        _check_addresses(option, [address for address in addresses if address not in (None, "none")])
    with reported(as_json):
        from meshnode.cli import lean
        from meshnode.cli.up import Launch
        from meshnode.cli.up import up as stay

        start = lean.become if in_a_process_of_its_own else stay
        raise typer.Exit(start(Launch(home, given, as_json, log_level.value, hello)))


def _check_addresses(option: str, addresses: Sequence[str]) -> None:
    for address in addresses:
        host, _, port = address.rpartition(":")
        # An empty host is every interface, which can be listened on and not dialled.
        if not port.isdecimal() or int(port) > 65_535 or ":" not in address or (option == "--peer" and not host):
            raise typer.BadParameter(f"{address!r} is not HOST:PORT, such as 127.0.0.1:6374", param_hint=option)


@app.command()
def run(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name that `meshnode models` shows.")],
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What to ask; without it, standard input.")
    ] = None,
    home: HomeOption = None,
    api: ApiOption = None,
) -> None:
    """Ask a model, streaming. Without a prompt on a terminal: a conversation."""
    from meshnode.cli import place

    with reported():
        from meshnode.cli import chat

        chat.run(place.find(home, api), model, prompt)


@app.command()
def models(home: HomeOption = None, api: ApiOption = None, as_json: JsonOption = False) -> None:
    """Every model of the mesh and the nodes that have it."""
    _list("models", home, api, as_json)


@app.command()
def explain(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model, an alias, NAME@NODE or NAME:q5.")],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What would be asked: its length counts.")] = "Hello",
    home: HomeOption = None,
    api: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Where a request would go now, and why. Nothing is run."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import explain as doing

        doing.explain(place.find(home, api), model, prompt, as_json)


@app.command()
def ps(home: HomeOption = None, api: ApiOption = None, as_json: JsonOption = False) -> None:
    """What runs on this node: engines, slots, requests."""
    _list("processes", home, api, as_json)


@app.command()
def status(home: HomeOption = None, api: ApiOption = None, as_json: JsonOption = False) -> None:
    """This node, then one line for each peer."""
    _list("status", home, api, as_json)


@app.command()
def why(
    request: Annotated[
        str | None, typer.Argument(metavar="REQUEST", help="Its `x-request-id`; without it, the last requests.")
    ] = None,
    everyone: Annotated[
        bool, typer.Option("--all", help="Every candidate that was looked at, and each that was left out.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Why a request went where it went: candidates, attempts, and where its time went."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import why as telling

        if request is None:
            telling.recent(place.find(home, None), as_json)
        else:
            telling.why(place.find(home, None), request, everyone, as_json)


app.add_typer(verbs.peers, name="peers")


def _list(what: str, home: Path | None, api: str | None, as_json: bool) -> None:
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import lists

        getattr(lists, what)(place.find(home, api), as_json)


for verb in (verbs.invite, verbs.join, verbs.leave, verbs.pause, verbs.resume):
    app.command()(verb)
app.add_typer(verbs.mesh, name="mesh")
app.add_typer(key_verbs.keys, name="keys")
app.add_typer(evidence.receipts, name="receipts")
app.add_typer(evidence.weights, name="weights")
app.add_typer(evidence.attest, name="attest")


@app.command()
def doctor(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """What keeps this node from being reached, and how to mend it. Exit code 1 when something fails."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli.doctor import examine

        sound = examine(place.place(home), as_json)
    if not sound:
        raise typer.Exit(say.FAILED)


@app.command()
def version(as_json: JsonOption = False) -> None:
    """Print the version."""

    text = version_text()
    if as_json:
        say.write_json({"version": text})
    else:
        print(f"meshnode {text}")
