"""The verbs of API keys, `keys …`, and their options. As app.py, they import what they need when called.

Not for what a verb does: that is one call into keys.py.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from meshnode.cli.options import HomeOption, JsonOption, LabelChoice, PriorityChoice, ScopeChoice
from meshnode.cli.outcome import reported
from meshnode.cli.verbs import _CONTEXT, _PLAIN

keys = typer.Typer(**_PLAIN, context_settings=_CONTEXT, no_args_is_help=True)  # type: ignore[arg-type] # as verbs

DAY_S = 86_400
TEN_YEARS_S = 3650 * DAY_S

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Its id, as `keys list` shows it; not the key itself.")]


@keys.callback()
def keys_options() -> None:
    """API keys of this machine's node. Once there is one, nobody is answered without."""


@keys.command()
def add(
    owner: Annotated[str, typer.Option(metavar="NAME", help="In whose name its requests are asked.")],
    scope: Annotated[
        list[ScopeChoice] | None,
        typer.Option(help="What it is for: infer (as a rule), or admin: to watch and command the node; repeatable."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[,…]", help="Models it may ask for, NAME* for all that begin so; repeatable."),
    ] = None,
    label: Annotated[
        LabelChoice, typer.Option(help="How far its requests may travel at most; theirs holds where it is stricter.")
    ] = LabelChoice.public,
    priority: Annotated[PriorityChoice, typer.Option(help="The tier of its requests.")] = PriorityChoice.normal,
    expires: Annotated[str | None, typer.Option(metavar="TIME", help="How long it is good: 12h, 30d.")] = None,
    timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Most time of a request: 90s, 10m.")] = None,
    first_token_timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="Most time until the first token, the queue included.")
    ] = None,
    silence_timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Most silence within an answer.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, this once. Alone on standard output when that is no terminal."""
    from meshnode.cli import place

    if not 0 < len(owner.strip()) <= 64:
        raise typer.BadParameter("an owner has a name of at most 64 characters", param_hint="--owner")
    wish: dict[str, Any] = {
        "owner": owner,
        "scopes": [one.value for one in dict.fromkeys(scope or (ScopeChoice.infer,))],
        "models": _names(models),
        "label": label.value,
        "priority": priority.value,
        "expires_s": _span("--expires", expires, TEN_YEARS_S),
        "timeout_s": _span("--timeout", timeout, DAY_S),
        "first_token_s": _span("--first-token-timeout", first_token_timeout, DAY_S),
        "silence_s": _span("--silence-timeout", silence_timeout, DAY_S),
    }
    with reported(as_json):
        from meshnode.cli import keys as doing

        doing.add(place.place(home), wish, as_json)


@keys.command("list")
def keys_list(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every key: whose, for what, until when."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import keys as doing

        doing.listed(place.place(home), as_json)


@keys.command()
def revoke(key: KeyArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Let a key open nothing any more, at once and for good."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import keys as doing

        doing.revoke(place.place(home), key, as_json)


@keys.command()
def forget(key: KeyArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Drop what is kept of a key that is revoked or has expired; with the last one, nobody needs a key any more."""
    from meshnode.cli import place

    with reported(as_json):
        from meshnode.cli import keys as doing

        doing.forget(place.place(home), key, as_json)


def _names(models: list[str] | None) -> list[str]:
    """What was listed; none where nothing was. An empty name, as of a variable that is not set, would let a key that
    was to be bounded ask for everything."""
    found = [name.strip() for one in models or () for name in one.split(",")]
    if not all(found):
        raise typer.BadParameter("a model's name is missing", param_hint="--models")
    return found


def _span(option: str, text: str | None, most_s: float) -> float | None:
    from meshnode.cli import words

    if text is None:
        return None
    try:
        return words.duration_s(text, most_s)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no time span between a second and {words.age(most_s)}", param_hint=option
        ) from error
