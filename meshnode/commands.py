"""What people tell a running node to do: its membership, its sharing, its API keys.

Finds the node that is meant and puts the outcome into words for JSON. Not for deciding any of it (mesh.member,
dispatch.share, front.keyring). Counterpart: front.control, whose routes call these; cli, which calls those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import trio

from meshnode.access import Wish as KeyWish
from meshnode.errors import BadRequest, SecretFileError
from meshnode.front.naming import resolve
from meshnode.identity.invites import MAX_LIFETIME_S
from meshnode.keep.pause import save_pause
from meshnode.mesh.inviter import Wish
from meshnode.model.ids import NodeId

if TYPE_CHECKING:
    from meshnode.front import Keyring
    from meshnode.node import Node


class Commands:
    """What people tell this node to do (front.doors.Control). Made by Presence."""

    def __init__(self, node: Node, keys: Keyring) -> None:
        self._node = node
        self._keys = keys
        self._disk = trio.Lock()

    async def invite(
        self, expires_s: float | None, roles: tuple[str, ...] | None, owner: str, root: bool
    ) -> Mapping[str, Any]:
        """A new invite, and what it gives for how many seconds."""
        lifetime_s = int(min(expires_s if expires_s is not None else MAX_LIFETIME_S, MAX_LIFETIME_S))
        made = self._node.member.invite(Wish(max(1, lifetime_s), roles, owner, root))
        return {
            "token": made.token,
            "expires_s": made.expires_s,
            "roles": list(made.roles),
            "owner": made.owner,
            "root": made.root,
        }

    async def join(self, token: str) -> Mapping[str, Any]:
        """Use an invite; who is there."""
        names = await self._node.member.join(token)
        return {"mesh": self._mesh_name, "nodes": names}

    async def leave(self, force: bool) -> Mapping[str, Any]:
        """Leave the mesh; which, and where this node is now."""
        left = await self._node.member.leave_mesh(force=force)
        return {"left": left, "mesh": self._mesh_name}

    async def rotate(self) -> Mapping[str, Any]:
        """A new network secret."""
        generation = await self._node.member.rotate()
        return {"mesh": self._mesh_name, "generation": generation}

    async def revoke(self, node: str, keep_invited: bool) -> Mapping[str, Any]:
        """Shut a node out; who went with it."""
        done = await self._node.member.revoke(await self._other(node), keep_invited=keep_invited)
        return {
            **self._named(done.node, done.name),
            "also": list(done.also),
            "dropped": done.dropped,
            "generation": done.generation,
            "local_only": done.local_only,
        }

    async def trust(self, node: str, name: str) -> Mapping[str, Any]:
        """Pin a node, under a name where one is given."""
        found = await self._other(node)
        changed = await self._node.member.trust_node(found, name)
        return {**self._named(found, name), "changed": changed, "trust": self._node.member.trust_mode}

    async def forget(self, node: str) -> Mapping[str, Any]:
        """Drop what is kept of a node."""
        found = await self._other(node)
        named = self._named(found)
        return {**named, "changed": await self._node.member.forget(found)}

    async def pause(self, foreign_only: bool) -> Mapping[str, Any]:
        """Take nobody's new requests, or only the owner's."""
        self._node.local.share.pause(foreign_only=foreign_only)
        await self._keep_pause("this machine is paused, but a restart lifts that")
        return self._node.local.share.status()

    async def resume(self) -> Mapping[str, Any]:
        """Lift a pause."""
        self._node.local.share.resume()
        await self._keep_pause("this machine's pause is lifted, but a restart brings it back")
        return self._node.local.share.status()

    async def _keep_pause(self, otherwise: str) -> None:
        """What holds now, for the next start. It holds already: a full disk is no reason to go on serving."""
        share, path = self._node.local.share, self._node.home.path / "paused"
        try:
            async with self._disk:
                # Read in here: of two commands at once the later one is kept.
                await trio.to_thread.run_sync(save_pause, path, share.paused)
        except SecretFileError as error:
            raise SecretFileError(f"{otherwise}: {error}") from error

    async def doctor(self) -> Mapping[str, Any]:
        """What linked peers find where this node says it can be dialled."""
        found = await self._node.member.dial_back()
        return {"peers": len(self._node.member.view().links), "dialled_back": [asdict(one) for one in found]}

    async def add_key(self, wish: KeyWish) -> Mapping[str, Any]:
        """A new API key."""
        return await self._keys.add(wish)

    async def list_keys(self) -> Mapping[str, Any]:
        """Every API key, and whether one is needed."""
        return {"keys": self._keys.listed(), "closed": self._keys.closed}

    async def revoke_key(self, key: str) -> Mapping[str, Any]:
        """One API key less that opens."""
        return await self._keys.revoke(key)

    async def forget_key(self, key: str) -> Mapping[str, Any]:
        """Nothing of that key is kept."""
        return await self._keys.forget(key)

    @property
    def _mesh_name(self) -> str:
        return self._node.member.membership.mesh.name

    def _named(self, node: NodeId, name: str = "") -> dict[str, str]:
        return {"node": node.text, "short": node.short, "name": name or self._node.member.view().name(node)}

    async def _other(self, text: str) -> NodeId:
        """The other node that is meant. Names count that were pinned to an id which is not heard of any more: it is
        those that people want to forget. Raises BadRequest, SecretFileError."""
        view = self._node.member.view()
        pins = await trio.to_thread.run_sync(self._node.home.pins)
        heard = [(node, view.name(node)) for node in view.adverts]
        pinned = [(NodeId(key), name) for name, key in pins.names]
        kept = [(NodeId(key), NodeId(key).short) for key in (*pins.pinned, *pins.barred)]
        found = resolve(text, dict.fromkeys([*heard, *pinned, *kept]))
        if found == view.me:
            raise BadRequest("that is this node itself; it leaves its mesh with: meshnode leave", param="node")
        return found
