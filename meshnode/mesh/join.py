"""Joining over an invite's link: the joiner asks once, gets a membership, and keeps what came with it.

The handshake has proved that both know the invite's secret and who each is. A member that uses an invite of its own
mesh is renewed, or gets other roles. Not for the handshake (net) nor for what a grant holds (identity.join).
Counterpart: inviter.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from random import uniform

import msgspec
import trio

from meshnode.config import Config
from meshnode.errors import (
    CertificateRefused,
    DecodeError,
    HandshakeFailed,
    InviteRefused,
    LinkError,
    LinkRefused,
    PeerFailed,
)
from meshnode.identity import (
    Invite,
    JoinGrant,
    JoinRequest,
    NodeKey,
    Notice,
    Notices,
    TrustMode,
    accept_grant,
)
from meshnode.identity.join import MAX_GRANT_BYTES
from meshnode.keep.addresses import Remembered, load_addresses, save_addresses
from meshnode.keep.home import Home, Membership
from meshnode.mesh.addresses import own_name
from meshnode.mesh.doorway import Knock
from meshnode.mesh.exchange import ask
from meshnode.model.ids import NodeId
from meshnode.net import Authenticated, Link, LinkStream, dial, socket_stream
from meshnode.net.dial import Connect
from meshnode.observe import log

logger = log.get("mesh")

PATH = "/meshnode/join"
ANSWER_S = 10.0
"""A grant is a signature and a file write; longer means that nobody is there."""

PAUSES_S = (0.5, 1.0)
"""Before each further try where a connection was closed without a word: many who join at once from behind one address
have to take turns (net.turnstile), and so do all while strangers hold every half-open place."""


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
    found = await _reach(invite, Knock(key, invite, name), config, connect)
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


async def _reach(invite: Invite, knock: Knock, config: Config, connect: Connect) -> Authenticated:
    """A connection to the signer. Raises InviteRefused."""
    pauses_s = iter(PAUSES_S)
    while True:
        attempt = knock.attempt()
        try:
            return await dial(
                invite.addresses, attempt, knock.check, config.mesh,
                expect=NodeId(invite.signer), connect=connect,
            )  # fmt: skip
        except HandshakeFailed as error:
            # Whoever refused in words is the signer, whatever is silent at other addresses of its.
            silent = attempt.unanswered and not isinstance(error, LinkRefused)
            pause_s = next(pauses_s, None) if silent else None
            if pause_s is None:
                raise InviteRefused(
                    f"no way in ({error}). The invite may be of another mesh or forgotten there, or none of its "
                    "addresses can be reached from here: make a new one on a machine that this one can dial"
                ) from error
        # Not all of a hundred machines at the same moment again.
        await trio.sleep(pause_s * uniform(0.5, 1.5))  # noqa: S311 - no secret


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
