"""Watches this machine's interfaces and listens for neighbours by multicast DNS; passes on what changed and hints.

Decides nothing about dialling (gossip.overlay) nor what a record means (records.py). The multicast itself lives in a
thread (multicast.py); between it and trio stands a queue that drops.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import trio

from meshnode.config.mesh import MeshSection
from meshnode.mesh.addresses import is_everywhere, is_loopback_host, reachable
from meshnode.mesh.interfaces import Confinement, Interface, confined, interfaces
from meshnode.mesh.records import Post, mesh_hash, posts
from meshnode.observe import log

logger = log.get("mesh")

FIRST_LOOKS_S, LOOK_S = 0.5, 5.0
"""Between looks at the interfaces, doubling from the first to the second: a machine that boots has its network moments
later, and a laptop that changed its network is found again within one look and one dial."""

SILENCE_S = 30.0
"""After this long with no peer and nothing heard, people want to know what to try (complaint 2)."""

QUEUE = 256
"""Hints on their way into trio: as many as the overlay keeps."""

GOODBYE_S = 2.5
"""How long leaving waits for the thread's goodbye."""


class Voice(Protocol):
    """Multicast, as this needs it. `run` blocks a thread until `stop`; the others may be called from any."""

    others: set[bytes]

    def run(self) -> None: ...
    def speak_on(self, wanted: tuple[Post, ...]) -> None: ...
    def stop(self) -> None: ...


OpenVoice = Callable[[bytes, int | None, Callable[[str], None]], Voice]


def open_multicast(mesh: bytes, port: int | None, heard: Callable[[str], None]) -> Voice:
    """The real one. Its library costs some megabytes, and so is imported only here."""
    from meshnode.mesh.multicast import Multicast

    return Multicast(mesh, port, heard)


@dataclass(frozen=True, slots=True)
class Listening:
    """Where this node listens: bound host (as addresses.bound_host gives it) and port, and what it `told` others."""

    host: str
    port: int
    told: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class System:
    """What lies below, replaced in tests."""

    look: Callable[[], Sequence[Interface]] = interfaces
    confined: Callable[[], Confinement | None] = confined
    open_voice: OpenVoice = open_multicast
    in_thread: Callable[..., Awaitable[Any]] = trio.to_thread.run_sync


class Discovery:
    """`run` watches and listens for one membership until cancelled, then says goodbye.

    `listening` is None for a node that only dials out. `heard` takes one address of a likely member, `moved` the new
    addresses to tell when this machine's changed; `linked` says whether any peer is linked. All are called in trio and
    must not wait.
    """

    def __init__(
        self,
        section: MeshSection,
        mesh_id: bytes,
        listening: Listening | None,
        *,
        heard: Callable[[str], None],
        moved: Callable[[tuple[str, ...]], None],
        linked: Callable[[], bool],
        system: System | None = None,
    ) -> None:
        self._section = section
        self._mesh = mesh_hash(mesh_id)
        self._listening = listening
        self._call_heard = heard
        self._call_moved = moved
        self._linked = linked
        self._system = system if system is not None else System()
        self._told = listening.told if listening is not None else ()
        self._inbox = _Inbox()
        self._heard = 0
        self._explained: set[str] = set()
        self._posts: tuple[Post, ...] = ()
        self._voice: Voice | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled. Leaving takes a moment, for the goodbye, and at most GOODBYE_S."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            if self._speaks():
                await self._explain_confinement()
                nursery.start_soon(self._speak)
                nursery.start_soon(self._pass_on)
                nursery.start_soon(self._mind_silence)
            if self._speaks() or self._follows():
                await self._watch()

    def _speaks(self) -> bool:
        """A node that listens on loopback alone wants to be found by nobody else."""
        alone = self._listening is not None and is_loopback_host(self._listening.host)
        return self._section.mdns and not alone

    def _follows(self) -> bool:
        """Whether what is told depends on the interfaces."""
        return self._listening is not None and is_everywhere(self._listening.host) and not self._section.advertise

    async def _watch(self) -> None:
        pause_s = FIRST_LOOKS_S
        while True:
            found = await self._system.in_thread(self._system.look)
            if self._follows():
                self._tell(found)
            if self._speaks():
                self._post(found)
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, LOOK_S)

    def _tell(self, found: Sequence[Interface]) -> None:
        assert self._listening is not None
        now = reachable(self._listening.host, self._listening.port, found)
        if now != self._told:
            logger.info("this machine's addresses changed", now=", ".join(now))
            self._told = now
            self._call_moved(now)

    def _post(self, found: Sequence[Interface]) -> None:
        here = self._listening
        host, port = (here.host, here.port) if here is not None else ("", None)
        self._posts = posts(found, self._section.mdns_interfaces, host, port)
        self._explain_skipped(found)
        if self._voice is not None:
            self._voice.speak_on(self._posts)

    async def _speak(self) -> None:
        token = trio.lowlevel.current_trio_token()
        try:
            # Importing takes a tenth of a second.
            self._voice = await self._system.in_thread(self._open, token)
            self._voice.speak_on(self._posts)
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope(shield=True)
                nursery.start_soon(_stop_when_cancelled, self._voice, scope)
                with scope:
                    await self._system.in_thread(
                        self._voice.run,
                        abandon_on_cancel=True,
                        limiter=trio.CapacityLimiter(1),
                        thread_name="multicast",
                    )
                nursery.cancel_scope.cancel()
        except Exception as error:  # crash barrier: without multicast, a node still has the peers that it is told of
            log.crash(logger, "multicast DNS ended", error)

    def _open(self, token: trio.lowlevel.TrioToken) -> Voice:
        port = self._listening.port if self._listening is not None else None
        return self._system.open_voice(self._mesh, port, lambda address: self._inbox.put(address, token))

    async def _pass_on(self) -> None:
        while True:
            for address in await self._inbox.take():
                self._heard += 1
                self._call_heard(address)

    async def _mind_silence(self) -> None:
        await trio.sleep(SILENCE_S)
        if self._heard or self._linked():
            return
        logger.info(
            f"no node of this mesh heard by multicast in {SILENCE_S:g} s",
            interfaces=", ".join(post.interface for post in self._posts) or "none that multicast can be spoken on",
            other_meshes=len(self._voice.others) if self._voice is not None else 0,
            try_this="join the mesh with an invite (meshnode join), name a peer (--peer host:port), let UDP port 5353 "
            "through firewalls, or see what is wrong (meshnode doctor)",
        )

    async def _explain_confinement(self) -> None:
        found = await self._system.in_thread(self._system.confined)
        if found is not None and self._follows():
            logger.info(f"this node runs in a {found.word}", so=found.sentence)

    def _explain_skipped(self, found: Sequence[Interface]) -> None:
        """Each reason once: on a host of containers there are hundreds of interfaces, and new ones every minute."""
        skipped: dict[str, list[str]] = {}
        for interface in found:
            reason = interface.unspoken(self._section.mdns_interfaces)
            if reason and interface.kind not in ("loopback", "empty", "down"):
                skipped.setdefault(reason, []).append(interface.name)
        for reason in skipped.keys() - self._explained:
            self._explained.add(reason)
            names = skipped[reason]
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            logger.info("multicast DNS is not spoken", on=", ".join(names[:4]) + more, because=reason)


async def _stop_when_cancelled(voice: Voice, scope: trio.CancelScope) -> None:
    """Give the thread in `scope` a moment to say goodbye when everything around it is cancelled."""
    try:
        await trio.sleep_forever()
    finally:
        voice.stop()
        scope.deadline = trio.current_time() + GOODBYE_S


class _Inbox:
    """Hints from the multicast thread to one task of trio."""

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()
        self._filled = trio.Event()

    def put(self, address: str, token: trio.lowlevel.TrioToken) -> None:
        """Called in the thread. Full, it drops: what is true is said again."""
        if len(self._waiting) >= QUEUE:
            return
        self._waiting.append(address)
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(self._wake, idempotent=True)

    async def take(self) -> list[str]:
        await self._filled.wait()
        self._filled = trio.Event()
        return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def _wake(self) -> None:
        self._filled.set()
