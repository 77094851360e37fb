"""The verbs of membership and sharing: invite, join, leave, pause, resume, `peers …`, `mesh …`. As app.py, they import
what they need when called.

Not for what a verb does: that is one call into membership.py, sharing.py, peers.py or mesh.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meshnode.cli.options import ApiOption, HomeOption, JsonOption, NodeArgument, RoleChoice, YesOption
from meshnode.cli.outcome import reported

_PLAIN = {"rich_markup_mode": None, "pretty_exceptions_enable": False, "add_completion": False}
_CONTEXT = {"help_option_names": ["-h", "--help"]}

peers = typer.Typer(**_PLAIN, context_settings=_CONTEXT)  # type: ignore[arg-type] # one dict for both groups
mesh = typer.Typer(**_PLAIN, context_settings=_CONTEXT, no_args_is_help=True)  # type: ignore[arg-type] # as above


def invite(
    role: Annotated[
        list[RoleChoice] | None,
        typer.Option(help="What the machine may do; repeatable. Without it: everything this node can give."),
    ] = None,
    owner: Annotated[str, typer.Option(metavar="NAME", help="Whose machine it is.")] = "",
    root: Annotated[bool, typer.Option("--root", help="Hand over the mesh's root too: a second machine like this.")] = (
        False
    ),
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="How long it is good for, a day at most: 90s, 30m, 24h.")
    ] = "24h",
    no_qr: Annotated[bool, typer.Option("--no-qr", help="Draw no QR code.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print one line that lets another machine join. Alone on standard output when that is no terminal."""
    from meshnode.cli import place, words

    try:
        expires_s = words.duration_s(expires)
    except ValueError as error:
        raise typer.BadParameter(
            f"{expires!r} is no time span between a second and a day", param_hint="--expires"
        ) from error
    if len(owner) > 64:
        raise typer.BadParameter("an owner has at most 64 characters", param_hint="--owner")
    with reported(as_json):
        from meshnode.cli import membership

        wish = membership.Wish(expires_s, tuple(dict.fromkeys(one.value for one in role or ())), owner, root)
        membership.invite(place.find(home, None), wish, as_json=as_json, qr=not no_qr)


def join(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="What `meshnode invite` printed; `-` reads it.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Join the mesh of an invite. Works before the first `up` and with the node running."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import membership

        membership.join(place.place(home), token, as_json)


def leave(
    force: Annotated[bool, typer.Option("--force", help="Even when the mesh loses its root with this node.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Leave the mesh. Works with the node running and without."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import membership

        membership.leave(place.place(home), force=force, as_json=as_json)


def pause(
    foreign_only: Annotated[
        bool, typer.Option("--foreign-only", help="Go on with the requests of this machine's owner.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have this machine's engines take no new requests until `meshnode resume`. What runs goes on."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import sharing

        sharing.pause(place.find(home, None), foreign_only=foreign_only, as_json=as_json)


def resume(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Lift a pause. Settings and schedule still hold."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import sharing

        sharing.resume(place.find(home, None), as_json=as_json)


@peers.callback(invoke_without_command=True)
def peers_options(
    context: typer.Context,
    draws: Annotated[bool, typer.Option("--graph", help="Draw who is linked with whom.")] = False,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="With --graph: draw it into an SVG file.")
    ] = None,
    home: HomeOption = None,
    api: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """The other nodes: ids, paths, roles. And whom to trust, revoke, forget."""
    if context.invoked_subcommand is not None:
        _nothing_before(context)
        return
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import graph
        from meshnode.cli import peers as doing

        if draws or svg is not None:
            graph.show(place.find(home, api), as_json, svg)
        else:
            doing.show(place.find(home, api), as_json)


def _nothing_before(context: typer.Context) -> None:
    """Options before the verb would be another command's: revoking in the wrong mesh must not come of that."""
    for name, option in (
        ("home", "--home"),
        ("api", "--api"),
        ("as_json", "--json"),
        ("draws", "--graph"),
        ("svg", "--svg"),
    ):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"put it after {context.invoked_subcommand!r}", param_hint=option)


@peers.command()
def trust(
    node: NodeArgument,
    name: Annotated[str, typer.Option(metavar="NAME", help="Pin it under this name.")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pin a node: with --trust pinned only such nodes are linked."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import peers as doing

        doing.trust(place.find(home, None), node, name, as_json)


@peers.command()
def revoke(
    node: NodeArgument,
    keep_invited: Annotated[
        bool, typer.Option("--keep-invited", help="Let those stay that it has invited itself.")
    ] = False,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shut a node out of the mesh, everywhere and for ever, and those it invited."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import peers as doing

        doing.revoke(place.find(home, None), doing.Revoking(node, keep_invited, yes), as_json)


@peers.command()
def forget(node: NodeArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Drop what this node keeps of another: pins, bars, addresses, its place in lists."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import peers as doing

        doing.forget(place.find(home, None), node, as_json)


@mesh.callback()
def mesh_options() -> None:
    """The mesh itself: what it is, its network secret."""


@mesh.command()
def show(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Id, name, trust mode, members, and whether the root is held here."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import mesh as doing

        doing.show(place.place(home), as_json)


@mesh.command()
def rotate(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Make the network secret anew; every member gets it by itself."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import mesh as doing

        doing.rotate(place.find(home, None), as_json)


@mesh.command()
def secret(
    source: Annotated[
        str | None, typer.Argument(metavar="[-]", help="`-` keeps the secret that comes on standard input.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the secret that --trust psk-tofu shares, made when there is none; or keep another machine's."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import mesh as doing

        doing.secret(place.place(home), source, as_json)
