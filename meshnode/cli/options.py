"""Options that several verbs share, and the words that options take. Imports nothing heavy: `--help` reads it.

Not for what a word means (config, identity).
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer


class EngineChoice(enum.StrEnum):
    """What `--engines` takes."""

    auto = "auto"
    none = "none"
    embedded = "embedded"


class LogFormat(enum.StrEnum):
    """What `--log-format` takes."""

    text = "text"
    json = "json"


class LogLevel(enum.StrEnum):
    """What `--log-level` takes."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class TrustChoice(enum.StrEnum):
    """What `--trust` takes."""

    ca = "ca"
    pinned = "pinned"
    psk_tofu = "psk-tofu"


class RoleChoice(enum.StrEnum):
    """What `--role` takes."""

    serve = "serve"
    relay = "relay"
    client = "client"
    invite = "invite"


class ScopeChoice(enum.StrEnum):
    """What a key's `--scope` takes."""

    infer = "infer"
    admin = "admin"


class LabelChoice(enum.StrEnum):
    """What `--label` takes."""

    public = "public"
    internal = "internal"
    sensitive = "sensitive"


class PriorityChoice(enum.StrEnum):
    """What `--priority` takes."""

    high = "high"
    normal = "normal"
    low = "low"


HomeOption = Annotated[
    Path | None,
    typer.Option("--home", envvar="MESHNODE_HOME", metavar="DIR", help="The node's configuration, state and secrets."),
]
ApiOption = Annotated[
    str | None, typer.Option("--api", metavar="URL", help="Ask the node at this address instead of the home's.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the node's JSON.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")]
NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="Its name, the short form of its id, or the whole id.")
]
