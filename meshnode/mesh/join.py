"""Joining over an invite's link: the joiner asks once, the inviter burns the invite and grants once.

The handshake has proved that both know the invite's secret and who each is. A member that uses an invite of its own
mesh is renewed, or gets other roles. Not for the handshake (net) nor for what a grant holds (identity.join). Both
sides are here.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
import trio

from meshnode.config import Config
from meshnode.errors import (
    CertificateRefused,
    DecodeError,
    HandshakeFailed,
    IdentityError,
    InviteRefused,
    LinkError,
    PeerFailed,
)
from meshnode.identity import (
    Invite,
    InviteBook,
    JoinGrant,
    JoinRequest,
    NodeKey,
    Notice,
    Notices,
    Role,
    TrustMode,
    accept_grant,
    make_grant,
)
from meshnode.identity.invites import MAX_LIFETIME_S
from meshnode.identity.join import MAX_GRANT_BYTES
from meshnode.keep.addresses import Remembered, load_addresses, save_addresses
from meshnode.keep.home import Home, Membership
from meshnode.mesh.addresses import own_name
from meshnode.mesh.doorway import Knock
from meshnode.mesh.exchange import answer, ask, read, refuse
from meshnode.mesh.papers import Papers
from meshnode.model.ids import NodeId
from meshnode.net import Link, LinkStream, dial, socket_stream
from meshnode.net.dial import Connect
from meshnode.observe import log

logger = log.get("mesh")

PATH = "/meshnode/join"
MAX_OWNER = 64
"""Characters, as certificates bound it."""

ANSWER_S = 10.0
"""A grant is a signature and a file write; longer means that nobody is there."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What an invite is to give. `roles` None: all that the inviter can; `root`: the root of the mesh as well."""

    lifetime_s: int
    roles: tuple[str, ...] | None = None
    owner: str = ""
    root: bool = False


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invite as it was made."""

    token: str
    expires_s: int
    roles: tuple[str, ...]
    owner: str
    root: bool


@dataclass(frozen=True, slots=True)
class Joined:
    """What joining brought: the membership, who signed and where that one can be dialled, and notices."""

    membership: Membership
    addresses: tuple[str, ...]
    notices: tuple[Notice, ...]
    signer: NodeId

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

    def __init__(self, home: Home, papers: Papers, reachable: Callable[[], tuple[str, ...]]) -> None:
        self._home = home
        self._papers = papers
        self._reachable = reachable
        self.book: InviteBook = home.invites()

    def invite(self, wish: Wish) -> Invitation:
        """A new one-line invite. Raises CertificateRefused when this node may not give what is wished, InviteRefused
        when nobody could dial it or a role does not exist."""
        roles = self._granted(wish)
        if len(wish.owner) > MAX_OWNER or not wish.owner.isprintable():
            raise InviteRefused(f"an owner's name has {MAX_OWNER} printable characters at most")
        addresses = self._reachable()
        if not addresses:
            raise InviteRefused(
                "this node accepts no links (--mesh none), so nobody can reach it to join: invite from another node"
            )
        lifetime_s = max(1, min(wish.lifetime_s, MAX_LIFETIME_S))
        token, _ = self.book.issue(
            int(time.time()),
            secrets.token_bytes(16),
            mesh=self._papers.mesh.id,
            signer=self._papers.key.id,
            addresses=addresses,
            lifetime_s=lifetime_s,
            roles=roles,
            owner=wish.owner,
            root=wish.root,
        )
        self._home.save_invites(self.book)
        return Invitation(token, lifetime_s, tuple(role.value for role in roles), wish.owner, wish.root)

    async def welcome(self, link: Link, stream: LinkStream) -> None:
        """Answer one join request on a joiner's link. Refusals are told in words, over the encrypted link."""
        hint = link.hint
        assert hint is not None
        try:
            # Whoever is here has the line, whatever it does next.
            self.book.got_through(hint, int(time.time()))
            self._home.save_invites(self.book)
            request = JoinRequest.unpack(await read(stream))
            grant = self._grant(request, link.peer, hint)
            await self._papers.keep()
        except (IdentityError, DecodeError) as error:
            logger.warning("a join was refused", joiner=link.peer.short, reason=str(error))
            await refuse(stream, str(error))
        else:
            await answer(stream, grant.pack())
            logger.info("joined", joiner=link.peer.short, name=request.name)

    def _granted(self, wish: Wish) -> tuple[Role, ...]:
        issuer = self._papers.issuer()
        if wish.root and self._papers.membership.root_seed is None:
            raise CertificateRefused("this node does not hold the root of the mesh, so it cannot hand it on")
        try:
            roles = issuer.grantable if wish.roles is None else frozenset(Role(role) for role in wish.roles)
        except ValueError as error:
            raise InviteRefused(f"{error}: there are {', '.join(sorted(Role))}") from error
        if not roles <= issuer.grantable:
            raise CertificateRefused(f"this node cannot give {', '.join(sorted(roles - issuer.grantable))}")
        return tuple(sorted(roles))

    def _grant(self, request: JoinRequest, joiner: NodeId, hint: bytes) -> JoinGrant:
        papers, now = self._papers, int(time.time())
        issuer = papers.issuer()
        # Burnt and kept before anything is granted: a crash in between costs an invite, never a second member.
        used = self.book.burn(hint, now, by=request.name)
        self._home.save_invites(self.book)
        if papers.mode is TrustMode.PINNED:
            papers.pin(joiner, request.name)
        return make_grant(
            issuer, papers.mesh, request, joiner, now=now, serial=secrets.randbits(63), invite=used,
            addresses=self._reachable(), root_seed=papers.membership.root_seed if used.root else None,
            notices=papers.notices.all(),
        )  # fmt: skip


async def join_mesh(home: Home, token: str, config: Config) -> Joined:
    """Join before the node's first start: takes the home, uses the invite, keeps what it brought.

    Raises StartError when the home is in use, InviteRefused when the node is in another mesh that has others, and what
    `join_with` raises.
    """
    with home:
        _check_free(home, Invite.parse(token, int(time.time())))
        joined = await join_with(home, token, config)
        keep_joined(home, joined, config)
    return joined


async def join_with(home: Home, token: str, config: Config, *, connect: Connect = socket_stream.connect) -> Joined:
    """Use an invite: dial its signer, get a membership. Nothing is kept yet.

    Raises InviteRefused (mistyped, expired, used, refused by its signer, nobody could be reached), CertificateRefused
    (the grant is wrong), SecretFileError.
    """
    if TrustMode(config.mesh.trust) is TrustMode.PSK_TOFU:
        raise InviteRefused(
            "this node trusts whoever has its secret file (mesh.trust is psk-tofu): copy mesh.secret from a machine of "
            "that mesh, or set mesh.trust to use invites"
        )
    invite = Invite.parse(token, int(time.time()))
    key, name = home.node_key(), own_name(config.node.name)
    known = home.membership(key)
    same = known is not None and known.mesh.id == invite.mesh
    if invite.signer == key.id:
        raise InviteRefused("this invite was made by this very node: use it on another machine")
    if same and known is not None and known.root_seed is not None:
        raise InviteRefused(
            f"this node holds the root of the mesh {known.mesh.name!r}: nobody can give it more, and it renews itself"
        )
    grant = await _ask(invite, key, name[:128], config, connect)
    mesh, chain = accept_grant(grant, invite.mesh, key.id, int(time.time()))
    if same and known is not None and known.mesh.generation > mesh.generation:
        # The inviter has not heard of the last rotation yet.
        mesh = known.mesh
    addresses = tuple(dict.fromkeys((*invite.addresses, *grant.addresses)))
    return Joined(Membership(mesh, chain, grant.root_seed), addresses, grant.notices, NodeId(invite.signer))


def has_others(home: Home, known: Membership) -> bool:
    """Whether anybody else is in the mesh of a node that does not run, as far as its home tells: somebody else began
    it, or was linked, or came with an invite of the last days. Raises SecretFileError."""
    if known.root_seed is None or load_addresses(home.addresses, known.mesh.id):
        return True
    return any(invite.used for invite in home.invites().records())


def _check_free(home: Home, invite: Invite) -> None:
    """A node is in one mesh at a time. Raises InviteRefused, SecretFileError."""
    known = home.membership(home.node_key())
    if known is not None and known.mesh.id != invite.mesh and has_others(home, known):
        raise InviteRefused(
            f"this node is in the mesh {known.mesh.name!r}, which has other members: a node is in one mesh at a time, "
            "so leave that one first (meshnode leave), or use the invite with another home (--home)"
        )


def keep_joined(home: Home, joined: Joined, config: Config) -> None:
    """Write down what joining brought, the membership last: before it is there the rest means nothing. Raises
    SecretFileError."""
    mesh = joined.membership.mesh.id
    home.save_notices(mesh, _believed(mesh, (*home.notices(mesh), *joined.notices)))
    if TrustMode(config.mesh.trust) is TrustMode.PINNED:
        pins = home.pins()
        pinned = tuple({*pins.pinned, bytes(joined.signer)})
        home.save_pins(msgspec.structs.replace(pins, pinned=pinned))
    save_addresses(home.addresses, mesh, [Remembered(joined.signer, joined.addresses)])
    home.save_membership(joined.membership)


def _believed(mesh: bytes, notices: Iterable[Notice]) -> tuple[Notice, ...]:
    found, now = Notices(mesh), int(time.time())
    for notice in notices:
        try:
            found.add(notice, now)
        except CertificateRefused as error:
            logger.warning("a notice of the inviting node is not believed", reason=str(error))
    return found.all()


async def _ask(invite: Invite, key: NodeKey, name: str, config: Config, connect: Connect) -> JoinGrant:
    """One question on a link of its own. A nursery wraps what its body raises, so the outcome is carried out of it."""
    knock = Knock(key, invite, name)
    try:
        found = await dial(
            invite.addresses, knock.initiator, knock.check, config.mesh,
            expect=NodeId(invite.signer), connect=connect,
        )  # fmt: skip
    except HandshakeFailed as error:
        raise InviteRefused(
            f"no way in ({error}). The invite may be of another mesh or forgotten there, or none of its addresses can "
            "be reached from here: make a new one on a machine that this one can dial"
        ) from error
    link, request = Link(found, _nobody_calls, config.mesh), JoinRequest(key.id, name)
    answered: list[JoinGrant | InviteRefused] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        answered.append(await _answer(link, request))
        nursery.cancel_scope.cancel()
    (outcome,) = answered
    if isinstance(outcome, InviteRefused):
        raise outcome
    return outcome


async def _answer(link: Link, request: JoinRequest) -> JoinGrant | InviteRefused:
    try:
        return JoinGrant.unpack(await ask(link, PATH, request.pack(), timeout_s=ANSWER_S, limit=MAX_GRANT_BYTES))
    except PeerFailed as error:
        return InviteRefused(f"the inviting node refused: {error}")
    except LinkError as error:
        return InviteRefused(f"the inviting node went away before it answered: {error}")
    except DecodeError as error:
        return InviteRefused(f"the inviting node answered nonsense: {error}")


async def _nobody_calls(link: Link, stream: LinkStream) -> None:
    stream.reset()
