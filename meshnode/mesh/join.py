"""Joining over an invite's link: the joiner asks once, the inviter burns the invite and grants once.

The handshake has proved that both know the invite's secret and who each is. Not for the handshake (net) nor for what
a grant holds (identity.join). Both sides are here, one class or function each.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import trio

from meshnode.config import Config
from meshnode.config.mesh import MeshSection
from meshnode.errors import CertificateRefused, DecodeError, HandshakeFailed, InviteRefused, LinkError
from meshnode.identity import Invite, InviteBook, JoinGrant, JoinRequest, NodeKey, accept_grant, make_grant
from meshnode.keep.addresses import save_addresses
from meshnode.keep.home import Home, Membership
from meshnode.mesh.addresses import own_name
from meshnode.mesh.doorway import Knock
from meshnode.model.ids import NodeId
from meshnode.net import Link, LinkStream, dial
from meshnode.observe import log

logger = log.get("mesh")

PATH = "/meshnode/join"
MAX_MESSAGE_BYTES = 4096
ANSWER_S = 10.0
"""A grant is a signature and a file write; longer means that nobody is there."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What joining brought: the membership, kept already, and addresses of members to dial."""

    membership: Membership
    addresses: tuple[str, ...]

    @property
    def mesh_name(self) -> str:
        """The mesh's readable name."""
        return self.membership.mesh.name

    @property
    def node_names(self) -> tuple[str, ...]:
        """Members known by name: none before a link is up."""
        return ()


class Inviter:
    """This node's side of invites: makes them, keeps the book, and answers those who come with one."""

    def __init__(
        self, home: Home, key: NodeKey, membership: Membership, reachable: Callable[[], tuple[str, ...]]
    ) -> None:
        self._home = home
        self._key = key
        self._membership = membership
        self._reachable = reachable
        self.book: InviteBook = home.invites()

    def invite(self, lifetime_s: int) -> str:
        """A new one-line invite. Raises CertificateRefused when this node may not invite, InviteRefused when nobody
        could dial it."""
        self._membership.issuer(self._key)
        addresses = self._reachable()
        if not addresses:
            raise InviteRefused(
                "this node accepts no links (--mesh none), so nobody can reach it to join: invite from another node"
            )
        token, _ = self.book.issue(
            int(time.time()),
            secrets.token_bytes(16),
            mesh=self._membership.mesh.id,
            signer=self._key.id,
            addresses=addresses,
            lifetime_s=lifetime_s,
        )
        self._home.save_invites(self.book)
        return token

    def keep(self) -> None:
        """Store the book: an attempt was counted."""
        self._home.save_invites(self.book)

    async def welcome(self, link: Link, stream: LinkStream) -> None:
        """Answer one join request on a joiner's link. Refusals are told in words, over the encrypted link."""
        hint = link.hint
        assert hint is not None
        try:
            request = JoinRequest.unpack(await _read(stream))
            grant = self._grant(request, link.peer, hint)
        except (InviteRefused, CertificateRefused, DecodeError) as error:
            logger.warning("a join was refused", joiner=link.peer.short, reason=str(error))
            await stream.send_head([(":status", "403")])
            await stream.send(str(error).encode())
        else:
            await stream.send_head([(":status", "200")])
            await stream.send(grant.pack())
            logger.info("joined", joiner=link.peer.short, name=request.name)
        await stream.finish()

    def _grant(self, request: JoinRequest, joiner: NodeId, hint: bytes) -> JoinGrant:
        now = int(time.time())
        issuer = self._membership.issuer(self._key)
        # Burnt and kept before anything is granted: a crash in between costs an invite, never a second member.
        self.book.burn(hint, now)
        self._home.save_invites(self.book)
        mesh, serial = self._membership.mesh, secrets.randbits(63)
        return make_grant(issuer, mesh, request, joiner, now=now, serial=serial, addresses=self._reachable())


async def join_mesh(home: Home, token: str, config: Config) -> Joined:
    """Join before the node's first start: takes the home, uses the invite, keeps what it brought.

    Raises StartError when the home is in use, and what `join_with` raises.
    """
    with home:
        name = own_name(config.node.name)
        joined = await join_with(home, token, config.mesh, name=name, owner=config.node.owner)
        save_addresses(home.addresses, joined.membership.mesh.id, joined.addresses)
    return joined


async def join_with(home: Home, token: str, section: MeshSection, *, name: str = "", owner: str = "") -> Joined:
    """Use an invite: dial its signer, get a membership, keep it. The caller holds the home.

    Raises InviteRefused (mistyped, expired, used, refused by its signer, nobody
    could be reached), CertificateRefused (the grant is
    wrong), SecretFileError.
    """
    invite = Invite.parse(token, int(time.time()))
    key = home.node_key()
    known = home.membership(key)
    if known is not None and known.mesh.id == invite.mesh:
        raise InviteRefused(f"this node is in the mesh {known.mesh.name!r} already")
    if invite.signer == key.id:
        raise InviteRefused("this invite was made by this very node: use it on another machine")
    knock = Knock(key, invite)
    try:
        found = await dial(invite.addresses, knock.initiator, knock.check, section, expect=NodeId(invite.signer))
    except HandshakeFailed as error:
        raise InviteRefused(
            f"no way in ({error}). The invite may be used up, or none of its addresses can be reached from here: "
            "make a new one on a machine that this one can dial"
        ) from error
    grant = await _exchange(Link(found, _nobody_calls, section), JoinRequest(key.id, name[:128], owner))
    mesh, chain = accept_grant(grant, invite.mesh, key.id, int(time.time()))
    membership = Membership(mesh, chain)
    home.save_membership(membership)
    return Joined(membership, tuple(dict.fromkeys((*invite.addresses, *grant.addresses))))


async def _exchange(link: Link, request: JoinRequest) -> JoinGrant:
    """One question on a link of its own. A nursery wraps what its body raises, so the outcome is carried out of it."""
    answered: list[JoinGrant] = []
    refused: list[InviteRefused] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        with trio.move_on_after(ANSWER_S):
            try:
                answered.append(await _ask(link, request))
            except InviteRefused as error:
                refused.append(error)
        nursery.cancel_scope.cancel()
    if not answered:
        raise refused[0] if refused else InviteRefused(f"the inviting node did not answer within {ANSWER_S:g} s")
    return answered[0]


async def _ask(link: Link, request: JoinRequest) -> JoinGrant:
    try:
        headers = [(":method", "POST"), (":scheme", "mesh"), (":authority", "mesh"), (":path", PATH)]
        stream = await link.request(headers, request.pack())
        head = await stream.head()
        body = await _read(stream)
    except LinkError as error:
        raise InviteRefused(f"the inviting node went away before it answered: {error}") from error
    if head.get(":status") != "200":
        raise InviteRefused(body.decode(errors="replace")[:500])
    try:
        return JoinGrant.unpack(body)
    except DecodeError as error:
        raise InviteRefused(f"the inviting node answered nonsense: {error}") from error


async def _read(stream: LinkStream) -> bytes:
    body = bytearray()
    while data := await stream.receive_some():
        body += data
        if len(body) > MAX_MESSAGE_BYTES:
            raise DecodeError("a join message is too long")
    return bytes(body)


async def _nobody_calls(link: Link, stream: LinkStream) -> None:
    stream.reset()
