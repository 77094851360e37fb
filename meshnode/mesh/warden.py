"""Who is kept out of the mesh, decided at this node: revocation, rotation of the network secret, pins and local bars.

Each takes effect here at once, is told to every member where it is more than this node's own affair, and is on disk
when it returns. Not for believing what others decide (papers.py, notices.py). Counterpart: cli.peers.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from meshnode.errors import CertificateRefused, IdentityError
from meshnode.identity import Issuer, Revocation, Role, Rotation, TrustMode
from meshnode.identity.statements import MAX_KEPT
from meshnode.mesh.mesh import Mesh
from meshnode.mesh.papers import Papers
from meshnode.model.ids import NodeId
from meshnode.observe import log

logger = log.get("mesh")


@dataclass(frozen=True, slots=True)
class Revoked:
    """What a revocation did. `also`: names of nodes that are out because `node` invited them; `dropped`: there was a
    link to it; `generation`: of the network secret since; `local_only`: other nodes were not told."""

    node: NodeId
    name: str
    also: tuple[str, ...]
    dropped: bool
    generation: int
    local_only: bool


class Warden:
    """Decides for the membership that `papers` and `mesh` live. All methods raise SecretFileError when the disk does
    not take it; it counts in this process even so."""

    def __init__(self, papers: Papers, mesh: Mesh) -> None:
        self._papers = papers
        self._mesh = mesh

    async def revoke(self, node: NodeId, *, keep_invited: bool = False) -> Revoked:
        """Shut a node out for ever, with those it invited unless `keep_invited`, and make the network secret anew.

        In psk-tofu at this node only. Raises CertificateRefused when this node may not, IdentityError for itself.
        """
        if node == self._papers.key.id:
            raise IdentityError("a node does not revoke itself: `meshnode leave` leaves the mesh")
        name, linked = self._name(node), self._mesh.link(node) is not None
        if self._papers.mode is TrustMode.PSK_TOFU:
            self._papers.bar(node)
            self._mesh.refresh()
            await self._papers.keep()
            return Revoked(node, name, (), linked, 0, local_only=True)
        issuer = self._papers.issuer()
        invited = self._invited_by(node)
        kept = tuple(sorted(map(bytes, invited))) if keep_invited else ()
        self._check_may(issuer, node, kept)
        also = () if keep_invited else tuple(sorted(map(self._name, invited)))
        self._warn_of_lifted(node)
        self._mesh.post(issuer.notice(Revocation(self._papers.mesh.id, bytes(node), int(time.time()), kept)))
        try:
            generation = self._rotate(issuer)
        except CertificateRefused as error:
            # It is out all the same; its certificate opens nothing, with the secret or without it.
            logger.warning("the node is revoked, but the network secret stays", reason=str(error))
            generation = self._papers.mesh.generation
        await self._papers.keep()
        return Revoked(node, name, also, linked, generation, local_only=False)

    async def rotate(self) -> int:
        """Make the network secret anew; the old one is accepted for a day. Returns the new generation. Raises
        CertificateRefused when this node may not."""
        generation = self._rotate(self._papers.issuer())
        await self._papers.keep()
        return generation

    async def trust(self, node: NodeId, name: str = "") -> bool:
        """Pin a node, and lift a local bar of it. Whether something changed. Raises CertificateRefused for a name
        that is another node's."""
        changed = self._papers.pin(node, name)
        await self._reconsider(changed)
        return changed

    async def forget(self, node: NodeId) -> bool:
        """Drop pins, names and bars of a node, and its advert until it says something new. Whether there were any."""
        changed = self._papers.forget(node)
        known = self._mesh.forget(node)
        await self._reconsider(changed)
        return changed or known

    def _rotate(self, issuer: Issuer) -> int:
        mesh = self._papers.mesh
        generation, now = max(0, mesh.generation) + 1, int(time.time())
        if not issuer.is_root and generation > now:
            raise CertificateRefused(
                "somebody has counted the network secret's rotations up as far as members may: a node that holds the "
                "root of the mesh can rotate it now, others in some minutes"
            )
        rotation = Rotation(mesh.id, generation, secrets.token_bytes(32), now)
        self._mesh.post(issuer.notice(rotation))
        return generation

    def _name(self, node: NodeId) -> str:
        """As its advert says, or its handshake where there is no advert yet."""
        view, member = self._mesh.view(), self._mesh.outlook.member(node)
        if node not in view.adverts and member is not None and member.name:
            return member.name
        return view.name(node)

    def _invited_by(self, node: NodeId) -> list[NodeId]:
        return [one for one, member in self._mesh.outlook.members().items() if node in member.vouchers]

    def _check_may(self, issuer: Issuer, node: NodeId, kept: tuple[bytes, ...]) -> None:
        if not issuer.is_root and self._mesh.outlook.member(node) is None:
            # Its roles are in its certificate; one that may invite would stay in, and people would believe it out.
            raise CertificateRefused(
                f"nothing is heard of {node.short} now, so this node cannot tell whether it may invite, which only a "
                "node that holds the root of the mesh revokes: revoke it there, or when it is heard of again"
            )
        if not issuer.is_root and Role.INVITE in self._mesh.outlook.roles(node):
            raise CertificateRefused("only a node that holds the root of the mesh revokes one that may invite")
        if len(kept) > MAX_KEPT:
            raise IdentityError(f"it invited {len(kept)} nodes, and at most {MAX_KEPT} can be kept: invite them again")

    def _warn_of_lifted(self, node: NodeId) -> None:
        """What a member revoked counts no more once the root has revoked it."""
        if self._papers.membership.root_seed is None:
            return
        lifted = [self._name(NodeId(one.node)) for one in self._papers.notices.by_member(node)]
        if lifted:
            logger.warning("nodes that the revoked one had revoked may come back: revoke them again", nodes=lifted)

    async def _reconsider(self, changed: bool) -> None:
        if changed:
            self._mesh.refresh()
            await self._papers.keep()
