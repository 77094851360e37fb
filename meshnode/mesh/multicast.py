"""Multicast DNS in a thread of its own: one zeroconf instance per interface, all on one asyncio loop. Imports zeroconf.

Imported only where multicast is on. Decides nothing about what is heard (records.py) nor about where to speak
(discover.py, its counterpart in trio, which owns the thread).

zeroconf keeps up to 10,000 records of up to 9 kB each, and its own browsers remember every name until its record would
end, which is as long as its sender likes. So no browser is used, what the cache holds is thrown away long before that,
and the thread stands still when it has had its share of a core.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from zeroconf import (  # type: ignore[attr-defined]  # public, but not in its __all__
    DNSOutgoing,
    DNSQuestion,
    Error,
    IPVersion,
    RecordUpdate,
    RecordUpdateListener,
    ServiceInfo,
    Zeroconf,
)
from zeroconf.asyncio import AsyncZeroconf

from meshnode.mesh.records import TYPE, Post, is_other_mesh, properties, read_record
from meshnode.observe import log

logger = log.get("mesh")

MAX_RECORDS = 1024
"""Records heard between two clearings of an instance's cache: a LAN's usual devices say fewer in an hour."""

NAMES_PER_PACKET = 16
"""Instances read of one packet; a node sends one."""

SHARE = 0.2
"""Of one core, at most: whoever floods the LAN must not slow the answers of this node, which share its interpreter."""

CALM_S, BUSY_S, LONGEST_PAUSE_S = 1.0, 0.05, 1.0
"""Between looks at the share while all is quiet and while it is not; how long the thread stands still at once."""

LONGEST_ASK_S = 3600.0
"""Questions are repeated at doubling intervals up to this one (RFC 6762 §5.2)."""

CLOSE_S = 1.0
"""For a goodbye and the closing of sockets."""

_PTR, _IN, _QUERY = 12, 1, 0
"""RFC 1035 §3.2.2, §3.2.4, §4.1.1."""


class Multicast:
    """`run` blocks its thread until `stop`; `speak_on` and `stop` may be called from any thread, also before `run`.

    `mesh` is the hash said and listened for, `port` this node's (None: it is not announced). `heard` is called in this
    thread with each address. `others` are hashes of other meshes that were heard, a few of them.
    """

    def __init__(
        self,
        mesh: bytes,
        port: int | None,
        heard: Callable[[str], None],
        open_zeroconf: Callable[..., AsyncZeroconf] = AsyncZeroconf,
    ) -> None:
        self.mesh = mesh
        self.port = port
        self.heard = heard
        self.others: set[bytes] = set()
        self._open = open_zeroconf
        self._wanted: tuple[Post, ...] = ()
        self._stopped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._failed: set[tuple[str, str]] = set()

    def speak_on(self, wanted: tuple[Post, ...]) -> None:
        """Speak there and nowhere else. Said again, it tries again where it failed."""
        self._wanted = wanted
        self._poke()

    def stop(self) -> None:
        """Say goodbye and return from `run`, within about two seconds."""
        self._stopped.set()
        self._poke()

    def run(self) -> None:
        """Speak and listen until `stop`."""
        asyncio.run(self._run())

    def _poke(self) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # closed already
                loop.call_soon_threadsafe(self._changed.set)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_crashed)
        self._changed.set()
        governor = asyncio.create_task(self._keep_to_share())
        stations: dict[Post, Station] = {}
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                if self._stopped.is_set():
                    return
                await self._settle(stations)
        finally:
            governor.cancel()
            await _close(list(stations.values()))

    async def _settle(self, stations: dict[Post, Station]) -> None:
        wanted = self._wanted
        await _close([stations.pop(post) for post in list(stations) if post not in wanted])
        for post in wanted:
            if post in stations:
                continue
            station = Station(post, self)
            try:
                await station.open(self._open)
                stations[post] = station
            except (OSError, RuntimeError, Error) as error:
                await _close([station])
                self._say_failed(post.interface, str(error) or type(error).__name__)

    def _say_failed(self, interface: str, reason: str) -> None:
        if (interface, reason) not in self._failed and len(self._failed) < 64:
            self._failed.add((interface, reason))
            logger.warning("multicast DNS cannot be spoken", interface=interface, reason=reason)

    async def _keep_to_share(self) -> None:
        """Stand still when a flood made this thread work more than its share; the kernel drops what comes meanwhile."""
        pause_s = CALM_S
        while True:
            began, worked = time.monotonic(), time.thread_time()
            await asyncio.sleep(pause_s)
            owed_s = (time.thread_time() - worked) / SHARE - (time.monotonic() - began)
            pause_s = BUSY_S if owed_s > 0 else CALM_S
            if owed_s > 0:
                self._stopped.wait(min(owed_s, LONGEST_PAUSE_S))


def _crashed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """One packet's fault is not the next one's, and what it says is for no log."""
    error = context.get("exception")
    if isinstance(error, Exception):
        log.crash(logger, "multicast DNS met a fault", error)


async def _close(stations: list[Station]) -> None:
    for station in stations:
        with contextlib.suppress(OSError, RuntimeError, Error, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await station.close()


class Station(RecordUpdateListener):
    """One zeroconf instance: announces this node on one interface, and reads what is announced there.

    Names are random, so that they say nothing of the host and need no probing for uniqueness (RFC 6762 §8.1).
    """

    def __init__(self, post: Post, owner: Multicast) -> None:
        self._post = post
        self._owner = owner
        self._name = f"{secrets.token_hex(8)}.{TYPE}"
        self._info: ServiceInfo | None = None
        self._zeroconf: AsyncZeroconf | None = None
        self._tasks: list[asyncio.Future[Any]] = []
        self._names: set[str] = set()
        self._records = 0

    async def open(self, open_zeroconf: Callable[..., AsyncZeroconf]) -> None:
        """Open sockets, announce, begin to ask. Raises OSError, RuntimeError and zeroconf's Error."""
        version = IPVersion.V6Only if ":" in self._post.speaks_at else IPVersion.V4Only
        self._zeroconf = opened = open_zeroconf(interfaces=[self._post.speaks_at], ip_version=version)
        zeroconf = opened.zeroconf
        await zeroconf.async_wait_for_start()
        if not zeroconf.engine.senders:
            raise OSError(f"cannot send from {self._post.speaks_at}")
        for reader in zeroconf.engine.readers:
            _confine(reader.transport.get_extra_info("socket"), self._post)
        zeroconf.async_add_listener(self, None)
        if self._post.announced and self._owner.port is not None:
            self._info = ServiceInfo(
                TYPE,
                self._name,
                port=self._owner.port,
                properties=properties(self._owner.mesh),
                server=f"{secrets.token_hex(8)}.local.",
                addresses=self._post.announced,
            )
            said = await opened.async_register_service(self._info, cooperating_responders=True)
            self._tasks.append(asyncio.ensure_future(said))
        self._tasks.append(asyncio.create_task(self._ask(zeroconf)))

    async def close(self) -> None:
        """Say goodbye once and close: who missed it finds out by dialling."""
        for task in self._tasks:
            task.cancel()
        opened, self._zeroconf = self._zeroconf, None
        if opened is not None:
            goodbye = opened.zeroconf.generate_unregister_all_services()
            if goodbye is not None:
                opened.zeroconf.async_send(goodbye)
            await opened.async_close()

    async def _ask(self, zeroconf: Zeroconf) -> None:
        # RFC 6762 §5.2: after a power cut not everybody asks at once. Answers are asked for by multicast, as a unicast
        # one would reach only one of the programs that share the port.
        await asyncio.sleep(random.uniform(0.02, 0.12))  # noqa: S311
        pause_s = 1.0
        while True:
            question = DNSOutgoing(_QUERY)
            question.add_question(DNSQuestion(TYPE, _PTR, _IN))
            if self._info is not None:
                question.add_answer_at_time(self._info.dns_pointer(), 0)
            zeroconf.async_send(question)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_ASK_S)

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """Note whom a packet speaks of. Called by zeroconf before its cache has the records."""
        self._records += len(records)
        for update in records:
            name = update.new.name
            if len(self._names) < NAMES_PER_PACKET and name != self._name and name.lower().endswith(f".{TYPE}"):
                self._names.add(name)

    def async_update_records_complete(self) -> None:
        """Read whom the packet spoke of. Called by zeroconf when its cache has the records."""
        names, self._names = self._names, set()
        if self._zeroconf is None:
            return
        zeroconf = self._zeroconf.zeroconf
        for name in names:
            with contextlib.suppress(Error):  # a name that is none
                info = ServiceInfo(TYPE, name)
                if info.load_from_cache(zeroconf):
                    self._read(info)
        if self._records > MAX_RECORDS:
            self._records = 0
            cache = zeroconf.cache
            cache.async_remove_records([record for name in cache.names() for record in cache.entries_with_name(name)])

    def _read(self, info: ServiceInfo) -> None:
        owner, said = self._owner, info.properties
        for address in read_record(said, info.addresses_by_version(IPVersion.All), info.port, owner.mesh, self._post):
            owner.heard(address)
        if len(owner.others) < NAMES_PER_PACKET and is_other_mesh(said, owner.mesh):
            owner.others.add(said[b"m"] or b"")


_IP_MULTICAST_ALL = 49  # linux/in.h
_IP_BOUND_IF, _IPV6_BOUND_IF = 25, 125  # netinet/in.h and netinet6/in6.h of macOS


def _confine(sock: Any, post: Post) -> None:
    """Hear only what comes by this interface: zeroconf binds to all, and would answer strangers on a public one.

    On Windows and on Linux before 5.7 without privileges this is not possible; then it stays as it is.
    """
    v6 = sock.family == socket.AF_INET6
    try:
        if sys.platform == "linux":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, post.interface.encode() + b"\x00")
            if not v6:
                sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        elif sys.platform == "darwin":
            level, option = (socket.IPPROTO_IPV6, _IPV6_BOUND_IF) if v6 else (socket.IPPROTO_IP, _IP_BOUND_IF)
            sock.setsockopt(level, option, socket.if_nametoindex(post.interface))
    except OSError as error:
        logger.info("multicast DNS hears other interfaces too", interface=post.interface, reason=str(error))
