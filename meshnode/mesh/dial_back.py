"""Whether peers can dial this node: each is asked to try the addresses, and says how it went and what its clock shows.

A trial ends before the third handshake message: by then the other end has proved who it is, and it never takes the
trial for a link, which would replace the one there is. Both sides are here. Not for what to make of it (cli.doctor).
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated

import msgspec
import trio
from msgspec import Meta

from meshnode.errors import DecodeError, HandshakeFailed, IdentityError, LinkError, PeerFailed, RequestError
from meshnode.mesh.exchange import answer, ask, read, refuse
from meshnode.model import codec
from meshnode.model.ids import NodeId
from meshnode.model.view import View
from meshnode.net import Check, Link, LinkStream
from meshnode.net.dial import Connect, split_address
from meshnode.noise import Initiator
from meshnode.observe import log

PATH = "/meshnode/dial-back"

MAX_ADDRESSES = 8
"""As many as a dial races (net.dial)."""

TRIAL_S = 5.0
"""Connecting and half a handshake: a firewall that drops needs no longer to be told from a slow path."""

EVERY_S = 10.0
"""One question a peer: a node must not have others knock at its doors without end."""

ASK_S = 3 * TRIAL_S
"""For the trials, which run side by side, and a slow link."""

MAX_PEERS = 16
"""Peers asked at once: as many as a small mesh links to."""

MAX_BYTES = 2048
"""Eight addresses of the greatest length need half."""

READ_BYTES = 4096

Address = Annotated[str, Meta(max_length=128)]

logger = log.get("mesh")


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Asker to peer: dial these."""

    addresses: Annotated[tuple[Address, ...], Meta(max_length=MAX_ADDRESSES)]


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """How it went at one address; `detail` is empty where it went well."""

    address: Address
    ok: bool
    detail: Annotated[str, Meta(max_length=200)] = ""


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Peer to asker. `at_ms` is the peer's wall clock, in milliseconds since 1970, when it answered."""

    trials: Annotated[tuple[Trial, ...], Meta(max_length=MAX_ADDRESSES)]
    at_ms: Annotated[int, Meta(ge=0, le=2**50)]


@dataclass(frozen=True, slots=True)
class DialledBack:
    """What one peer found at one address of this node.

    `address` is empty for a peer that had none to try or (`ok` False) could not be asked. `clock_skew_s` is how far
    the peer's clock is ahead of this node's, None where it said nothing.
    """

    peer: str
    address: str
    ok: bool
    detail: str
    clock_skew_s: float | None


@dataclass(frozen=True, slots=True)
class Way:
    """How this node dials as a member of its mesh: what net.dial is handed, in one."""

    initiator: Callable[[], Initiator]
    check: Check
    connect: Connect


class DialBack:
    """Both ends of the question. `view` and `addresses` say what is known and where this node can be dialled now;
    `wall` gives wall-clock seconds."""

    def __init__(
        self,
        view: Callable[[], View],
        addresses: Callable[[], tuple[str, ...]],
        way: Way,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._view = view
        self._addresses = addresses
        self._way = way
        self._wall = wall
        self._busy = False
        self._served: dict[NodeId, float] = {}

    async def ask_all(self, links: Iterable[Link]) -> list[DialledBack]:
        """What the peers behind these links find, by peer and address; the first MAX_PEERS of them are asked. A peer
        that cannot be asked is in the list with the reason."""
        found: list[DialledBack] = []

        async def ask_one(link: Link) -> None:
            found.extend(await self._ask(link))

        async with trio.open_nursery() as nursery:
            for link in list(links)[:MAX_PEERS]:
                nursery.start_soon(ask_one, link)
        return sorted(found, key=lambda one: (one.peer, one.address))

    async def _ask(self, link: Link) -> list[DialledBack]:
        name = self._view().name(link.peer)
        question = codec.encode(Question(self._addresses()[:MAX_ADDRESSES]))
        try:
            said = codec.decode(await ask(link, PATH, question, timeout_s=ASK_S), Answer)
        except (LinkError, RequestError, DecodeError) as error:
            words = str(error) if isinstance(error, PeerFailed) else f"it did not answer: {error}"
            return [DialledBack(name, "", False, words, None)]
        # It was said half a round trip ago.
        skew_s = said.at_ms / 1000 + (link.rtt_s or 0.0) / 2 - self._wall()
        asked = set(self._addresses())
        trials = [trial for trial in said.trials if trial.address in asked] or [Trial("", True, "nothing to dial")]
        return [DialledBack(name, one.address, one.ok, one.detail, round(skew_s, 3)) for one in trials]

    async def serve(self, link: Link, stream: LinkStream) -> None:
        """Answer one question of a peer. Raises LinkError when it goes away meanwhile."""
        if not self._may_ask(link.peer):
            return await refuse(stream, f"it was asked less than {EVERY_S:g} s ago: try again in a moment")
        try:
            with trio.fail_after(TRIAL_S):
                asked = codec.decode(await read(stream, MAX_BYTES), Question).addresses
        except (DecodeError, trio.TooSlowError) as error:
            logger.debug("a peer's question cannot be read", peer=link.peer.short, reason=str(error))
            return await refuse(stream, "the question cannot be read: is this another version of meshnode?")
        if self._busy:
            return await refuse(stream, "it is dialling another node back: try again in a moment")
        self._busy = True
        try:
            trials = await self._try_all(link, tuple(dict.fromkeys(asked)))
        finally:
            self._busy = False
        return await answer(stream, codec.encode(Answer(trials, int(self._wall() * 1000))))

    def _may_ask(self, peer: NodeId) -> bool:
        """Counts the question where it may be asked."""
        now = trio.current_time()
        self._served = {node: at for node, at in self._served.items() if now - at < EVERY_S}
        if peer in self._served:
            return False
        self._served[peer] = now
        return True

    async def _try_all(self, link: Link, addresses: tuple[str, ...]) -> tuple[Trial, ...]:
        allowed, is_askers = self._allowed(link), self._askers(link)
        found: dict[str, Trial] = {}

        async def try_one(address: str) -> None:
            found[address] = await self._try(address, link.peer, is_askers(address))

        async with trio.open_nursery() as nursery:
            for address in addresses:
                if allowed(address):
                    nursery.start_soon(try_one, address)
                else:
                    found[address] = Trial(address, False, "it is not one that the peer may try")
        return tuple(found[address] for address in addresses)

    def _allowed(self, link: Link) -> Callable[[str], bool]:
        """Only what the asker's signed advert names, or its port at the host its link comes from. Loopback is another
        machine's unless the asker is on this one."""
        view = self._view()
        advert, own = view.adverts.get(link.peer), view.adverts.get(view.me)
        named = set(advert.addresses) if advert is not None else set()
        ports = {address.rpartition(":")[2] for address in named}
        same_host = advert is not None and own is not None and bool(own.host) and advert.host == own.host
        is_askers = self._askers(link)

        def allowed(address: str) -> bool:
            host, _, port = address.rpartition(":")
            known = address in named or (is_askers(address) and port in ports)
            return known and not _is_nobodys(host) and (same_host or not _is_loopback(host))

        return allowed

    def _askers(self, link: Link) -> Callable[[str], bool]:
        """Whether an address is at the host that the link leads to: what is found there is the asker's own. Its advert
        may name any address, and nobody is to look for open doors through others by that."""
        far = _ip(link.remote_host or (link.address or "").rpartition(":")[0])
        return lambda address: far is not None and _ip(address.rpartition(":")[0]) == far

    async def _try(self, address: str, expect: NodeId, told: bool) -> Trial:
        """`told`: what is there instead is said."""
        try:
            with trio.fail_after(TRIAL_S):
                await _knock(address, expect, self._way)
        except trio.TooSlowError:
            detail = f"no answer within {TRIAL_S:g} s" if told else "not reached"
        except HandshakeFailed as error:
            detail = str(error) if told else "not reached"
        else:
            return Trial(address, True)
        return Trial(address, False, "".join(filter(str.isprintable, detail))[:200])


async def _knock(address: str, expect: NodeId, way: Way) -> None:
    """Raises HandshakeFailed unless `expect` proves itself at `address`. It hears nothing of who asked."""
    host, port = split_address(address)
    try:
        stream = await way.connect(host, port)
    except (OSError, ValueError) as error:
        raise HandshakeFailed(f"no connection: {_reason(error)}") from error
    try:
        found = await _who(stream, way)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise HandshakeFailed("the connection broke during the handshake") from error
    except LinkError as error:
        raise HandshakeFailed(f"something answers that is no node of this mesh: {error}") from error
    except IdentityError as error:
        raise HandshakeFailed(f"who answers is not believed: {error}") from error
    finally:
        await trio.aclose_forcefully(stream)
    if found != expect:
        raise HandshakeFailed(f"another node answers there: {found.short}")


def _reason(error: OSError | ValueError) -> str:
    """The system's word; of a name with several addresses, for the last of them."""
    if isinstance(error.__cause__, ExceptionGroup):
        error = next((one for one in reversed(error.__cause__.exceptions) if isinstance(one, OSError)), error)
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


async def _who(stream: trio.abc.Stream, way: Way) -> NodeId:
    """The node at the other end, proved by its half of the handshake."""
    machine = way.initiator()
    await stream.send_all(machine.bytes_to_send())
    while True:
        data = await stream.receive_some(READ_BYTES)
        if not data:
            raise HandshakeFailed("it closed the connection")
        established = machine.receive(bytes(data))
        if established is not None:
            return way.check(established.remote_payload, established.remote_static)[0]


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that is meant, an IPv4 one in IPv6's clothes included; None for a name."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_nobodys(host: str) -> bool:
    """Whether no node can be meant: every interface, a group, or what never leaves a cable."""
    address = _ip(host)
    return address is not None and (address.is_unspecified or address.is_multicast or address.is_link_local)


def _is_loopback(host: str) -> bool:
    address = _ip(host)
    # A name may be written in many ways; those that always mean this machine are the ones that come by accident.
    return host.endswith("localhost") if address is None else address.is_loopback
