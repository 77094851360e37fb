"""The control routes: what the command line of this machine tells a running node to do.

Every one is a POST with the node's control secret or a key of scope admin; a body with a field that it does not know is
refused, since what is misspelt here may shut out the wrong machine. Not for deciding (doors.Control). Counterparts:
cli.peers, cli.membership, cli.keys.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from meshnode.access import Wish
from meshnode.errors import BadRequest
from meshnode.front.doors import Control
from meshnode.identity import Role

Name = Annotated[str, Meta(max_length=64)]
"""As long as a certificate's owner may be."""

Whom = Annotated[str, Meta(min_length=1, max_length=128)]
"""A node: its name, the short form of its id, or all of it."""


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Invite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    expires_s: Annotated[float, Meta(gt=0)] | None = None
    roles: Annotated[tuple[Role, ...], Meta(min_length=1, max_length=len(Role))] | None = None
    owner: Name = ""
    root: bool = False


class Join(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: str


class Leave(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    force: bool = False


class Revoke(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    node: Whom
    keep_invited: bool = False


class Trust(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    node: Whom
    name: Name = ""


class Forget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    node: Whom


class Pause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    foreign_only: bool = False


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: Annotated[str, Meta(min_length=1, max_length=64)]


Deed = Callable[[Control, Any], Awaitable[Mapping[str, Any]]]

ROUTES: Mapping[str, tuple[type[msgspec.Struct], Deed]] = {
    "/mesh/invite": (Invite, lambda control, asked: control.invite(*msgspec.structs.astuple(asked))),
    "/mesh/join": (Join, lambda control, asked: control.join(asked.token)),
    "/mesh/leave": (Leave, lambda control, asked: control.leave(asked.force)),
    "/mesh/rotate": (Nothing, lambda control, _: control.rotate()),
    "/mesh/peers/revoke": (Revoke, lambda control, asked: control.revoke(asked.node, asked.keep_invited)),
    "/mesh/peers/trust": (Trust, lambda control, asked: control.trust(asked.node, asked.name)),
    "/mesh/peers/forget": (Forget, lambda control, asked: control.forget(asked.node)),
    "/mesh/pause": (Pause, lambda control, asked: control.pause(asked.foreign_only)),
    "/mesh/resume": (Nothing, lambda control, _: control.resume()),
    "/mesh/keys/add": (Wish, lambda control, asked: control.add_key(asked)),
    "/mesh/keys/list": (Nothing, lambda control, _: control.list_keys()),
    "/mesh/keys/revoke": (Key, lambda control, asked: control.revoke_key(asked.key)),
    "/mesh/keys/forget": (Key, lambda control, asked: control.forget_key(asked.key)),
    "/mesh/doctor": (Nothing, lambda control, _: control.doctor()),
}


async def obey(path: str, body: bytes, control: Control) -> bytes:
    """Do what a POST to one of ROUTES asks; the JSON of what came of it. Raises BadRequest, MeshnodeError."""
    kind, deed = ROUTES[path]
    try:
        asked = msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(f"The request body has the wrong form: {error}") from error
    return msgspec.json.encode(await deed(control, asked))
