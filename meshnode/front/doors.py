"""What the front door needs of the rest of the node, as plain callables handed in by `node.py`.

Not for any decision: who answers a job, what is ready and who may join is known behind these. Counterpart: dispatch.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from meshnode.access import Wish
from meshnode.dialects import ModelCard
from meshnode.front.keyring import Keyring
from meshnode.model.answer import Answer
from meshnode.model.ids import NodeId
from meshnode.model.job import Job


class Control(Protocol):
    """What the person at this machine may have the node do: membership, engines, API keys. Everything raises
    MeshnodeError; what comes back is a JSON object. `node` is a name, the short form or the whole id, and must mean one
    node."""

    async def invite(
        self, expires_s: float | None, roles: tuple[str, ...] | None, owner: str, root: bool
    ) -> Mapping[str, Any]:
        """Make an invite; None is the usual time and the usual roles."""

    async def join(self, token: str) -> Mapping[str, Any]:
        """Use an invite."""

    async def leave(self, force: bool) -> Mapping[str, Any]:
        """Leave the mesh for a private one."""

    async def rotate(self) -> Mapping[str, Any]:
        """Make the network secret anew."""

    async def revoke(self, node: str, keep_invited: bool) -> Mapping[str, Any]:
        """Shut a node out for ever."""

    async def trust(self, node: str, name: str) -> Mapping[str, Any]:
        """Pin a node."""

    async def forget(self, node: str) -> Mapping[str, Any]:
        """Drop pins, bars and what is remembered of a node."""

    async def pause(self, foreign_only: bool) -> Mapping[str, Any]:
        """Take nobody's new requests on this machine's engines, or only its owner's."""

    async def resume(self) -> Mapping[str, Any]:
        """Lift a pause."""

    async def doctor(self) -> Mapping[str, Any]:
        """Have the linked peers dial this node."""

    async def add_key(self, wish: Wish) -> Mapping[str, Any]:
        """Make an API key, which is in the answer only."""

    async def list_keys(self) -> Mapping[str, Any]:
        """Every API key, without what it is made of."""

    async def revoke_key(self, key: str) -> Mapping[str, Any]:
        """Let an API key, told by its id, open nothing any more."""

    async def forget_key(self, key: str) -> Mapping[str, Any]:
        """Drop what is kept of one that is good no more."""


@dataclass(frozen=True, slots=True)
class Doors:
    """Everything that the front calls.

    `dispatch` returns an answer whose first bytes have arrived, or raises RequestError. `ready` is None while requests
    are welcome, else the reason why not ("starting", "draining"). `metrics` returns content type and body. `keys` knows
    who asks. `requests` lists so many of the last requests, `request` tells one by its id, `explain` what would be
    chosen for a job, which is not run. `queued` is a job's place in a queue, here or at another node, by its id; 0 for
    none. `session_secret` is what the beginnings of prompts are hashed under.
    """

    me: NodeId
    dispatch: Callable[[Job], Awaitable[Answer]]
    models: Callable[[], Sequence[ModelCard]]
    status: Callable[[], Mapping[str, Any]]
    graph: Callable[[], Mapping[str, Any]]
    health: Callable[[], Mapping[str, Any]]
    ready: Callable[[], str | None]
    metrics: Callable[[], tuple[str, bytes]]
    control: Control
    keys: Keyring = field(default_factory=Keyring)
    explain: Callable[[Job], Mapping[str, Any]] = lambda _: {}
    requests: Callable[[int], Sequence[Mapping[str, Any]]] = lambda _: ()
    request: Callable[[str], Mapping[str, Any] | None] = lambda _: None
    queued: Callable[[str], int] = lambda _: 0
    session_secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
