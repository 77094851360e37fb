"""What a handshake between two members costs, and what one inside a running link does to the streams on it.

Both ends live in this process, over real loopback sockets where streams run: on one core that is the worst case. Part
of `make bench`; alone with `python -m benchmarks.handshake`.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import trio
import trio.testing

from benchmarks.report import table
from meshnode.config.mesh import MeshSection
from meshnode.identity import (
    Issuer,
    MeshRoot,
    NodeKey,
    Notices,
    Pins,
    Trust,
    TrustMode,
    certify_link,
    pack_payload,
)
from meshnode.model.ids import NodeId
from meshnode.net import Authenticated, Link, LinkStream, Rekeying, initiate, respond
from meshnode.net.socket_stream import adopt
from meshnode.noise import Established, Initiator, Preface, Responder, Secrets, StaticKey, prologue
from meshnode.observe import log

MUST_CPU_MS = 1.0
MUST_STALL_MS = 20.0

STREAMS = 50
INTERVAL_S = 0.01
"""Between two chunks of a stream: a fast model's tokens, and fine enough to see a stall."""

WINDOW_S = 0.5
REKEY_S = 0.2
"""Age at which a link of a window shakes hands anew, once."""

HEADERS = [(":method", "POST"), (":scheme", "mesh"), (":authority", "mesh"), (":path", "/stream")]


@dataclass(frozen=True, slots=True)
class Handshake:
    """`*_cpu_us`: both sides together. `known`: each has judged the other's chain before, as with every hourly one.

    `*_stall_ms`: how much longer than usual the longest pause of any stream was, in the median window and the worst.
    """

    noise_cpu_us: float
    first_cpu_us: float
    known_cpu_us: float
    usual_stall_ms: float
    usual_worst_ms: float
    during_stall_ms: float
    during_worst_ms: float


class Member:
    """One node of a mesh, with what its handshakes need."""

    secrets = Secrets.derive(b"a network secret of 32 bytes....", b"network")

    def __init__(self, issuer: Issuer, now: int) -> None:
        self.key = NodeKey.generate()
        self.mesh = issuer.mesh
        self._static = StaticKey.generate()
        chain = issuer.issue(self.key.id, now, serial=1)
        self.payload = pack_payload(certify_link(self.key, self._static.public, self.mesh, now), chain, "bench")
        self._now = now
        self.forget()

    def forget(self) -> None:
        """Judge others as if for the first time."""
        self._trust = Trust(TrustMode.CA, self.mesh, self.key.id, Pins(), Notices(self.mesh))

    def initiator(self, mixed: bytes = b"") -> Initiator:
        """A fresh handshake that dials."""
        return Initiator(Preface(), self.secrets, self._static, self.payload, prologue(self.mesh) + mixed)

    def responder(self, mixed: bytes = b"") -> Responder:
        """A fresh handshake that answers."""
        payload, mesh = self.payload, prologue(self.mesh) + mixed
        return Responder(lambda _: self.secrets, self._static, lambda _: payload, lambda _: mesh)

    def check(self, payload: bytes, remote_static: bytes) -> tuple[NodeId, Any]:
        """Judge the other end."""
        peer = self._trust.check_member(payload, remote_static, self._now)
        return peer.node, peer


def members() -> tuple[Member, Member]:
    """Two members that the root let in."""
    root, now = MeshRoot.generate(), int(time.time())
    issuer = Issuer(root, root.mesh)
    return Member(issuer, now), Member(issuer, now)


# CPU.


def cpu_us(work: Callable[[], object], count: int, rounds: int) -> float:
    """CPU time of one call, the best of the rounds: what others take from a shared core is not ours."""
    best = float("inf")
    for _ in range(rounds):
        begin = time.process_time()
        for _ in range(count):
            work()
        best = min(best, (time.process_time() - begin) / count)
    return best * 1e6


def shake(dialler: Member, listener: Member, judge: Callable[[Member, Established], object]) -> None:
    """One handshake between two machines, without a network."""
    first, second = dialler.initiator(), listener.responder()
    second.receive(first.bytes_to_send())
    dialled = first.receive(second.bytes_to_send())
    assert dialled is not None
    judge(dialler, dialled)
    answered = second.receive(first.bytes_to_send())
    assert answered is not None
    judge(listener, answered)


def _not_judged(member: Member, found: Established) -> None:
    pass


def _judged(member: Member, found: Established) -> None:
    member.check(found.remote_payload, found.remote_static)


def _judged_anew(member: Member, found: Established) -> None:
    member.forget()
    member.check(found.remote_payload, found.remote_static)


# Stalls.


async def longest_pause_s(section: MeshSection, dialler: Member, listener: Member) -> tuple[float, int]:
    """The longest pause beyond INTERVAL_S that any stream of a window saw, and how often the link was renewed."""
    pauses: list[float] = []

    async def stream(link: Link, served: LinkStream) -> None:
        await served.send_head([(":status", "200")])
        due = trio.current_time()
        while True:
            due += INTERVAL_S
            await trio.sleep_until(due)
            await served.send(b"data: a token of an answer, as long as they are\n\n")

    async def read(link: Link) -> None:
        request = await link.request(HEADERS)
        await request.receive_some()
        last, longest = time.perf_counter(), 0.0
        try:
            while True:
                await request.receive_some()
                now = time.perf_counter()
                longest = max(longest, now - last)
                last = now
        finally:
            pauses.append(longest)

    async with trio.open_nursery() as nursery:
        link = await _linked(nursery, section, dialler, listener, stream)
        async with trio.open_nursery() as readers:
            for number in range(STREAMS):
                readers.start_soon(read, link)
                await trio.sleep(INTERVAL_S * number / STREAMS / 10)
            await trio.sleep(WINDOW_S)
            readers.cancel_scope.cancel()
        renewed = link.rekeyed
        nursery.cancel_scope.cancel()
    return max(pauses) - INTERVAL_S, renewed


async def _linked(
    nursery: trio.Nursery,
    section: MeshSection,
    dialler: Member,
    listener: Member,
    serve: Callable[[Link, LinkStream], Any],
) -> Link:
    """A running link over loopback; the dialler's end."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    left = adopt(await trio.testing.open_stream_to_socket_listener(listeners[0]))
    right = adopt(await listeners[0].accept())
    await listeners[0].aclose()

    def make(found: Authenticated, member: Member) -> Link:
        return Link(found, serve, section, Rekeying(member.initiator, member.responder, member.check))

    async def answer() -> None:
        await make(await respond(right, listener.responder(), listener.check, timeout_s=5), listener).run()

    nursery.start_soon(answer)
    link = make(await initiate(left, dialler.initiator(), dialler.check, timeout_s=5), dialler)
    await nursery.start(link.run)
    return link


async def stalls_ms(windows: int) -> tuple[list[float], list[float]]:
    """Longest pauses of windows without and with a handshake in them, taken in turns."""
    usual = replace(MeshSection(), ping_s=0.05, ping_misses=1000)
    renewing = replace(usual, rekey_s=REKEY_S)
    dialler, listener = members()
    without, during = [], []
    for _ in range(windows):
        pause_s, renewed = await longest_pause_s(usual, dialler, listener)
        assert renewed == 0
        without.append(pause_s * 1000)
        pause_s, renewed = await longest_pause_s(renewing, dialler, listener)
        assert renewed == 1
        during.append(pause_s * 1000)
    return without, during


def measure(*, quick: bool = False) -> Handshake:
    """Everything, in 15 seconds (3 with `quick`)."""
    log.configure(level="warning")
    dialler, listener = members()
    count, rounds, windows = (50, 3, 2) if quick else (200, 9, 12)
    gc.collect()
    noise, first, known = (
        cpu_us(partial(shake, dialler, listener, judge), count, rounds)
        for judge in (_not_judged, _judged_anew, _judged)
    )
    without, during = trio.run(stalls_ms, windows)
    median = statistics.median
    return Handshake(noise, first, known, median(without), max(without), median(during), max(during))


def handshake_table(found: Handshake) -> str:
    """The figures, with what must hold."""

    def row(title: str, value: float, unit: str, must: float | None = None) -> tuple[str, ...]:
        verdict = ("", "") if must is None else (f"<= {must:g}", "pass" if value <= must else "miss")
        return (title, f"{value:,.3g} {unit}", *verdict)

    return table(
        [
            ("handshake", "measured", "must", ""),
            row("CPU of both sides: Noise alone", found.noise_cpu_us / 1000, "ms", MUST_CPU_MS),
            row("  with credentials never seen before", found.first_cpu_us / 1000, "ms", MUST_CPU_MS),
            row("  with credentials judged before", found.known_cpu_us / 1000, "ms", MUST_CPU_MS),
            row(f"longest stall of {STREAMS} streams, usual", found.usual_stall_ms, "ms"),
            row("  during a handshake inside the link", found.during_stall_ms, "ms", MUST_STALL_MS),
            row("  the worst window, usual", found.usual_worst_ms, "ms"),
            row("  the worst window during one", found.during_worst_ms, "ms"),
        ]
    )


def as_json(found: Handshake) -> dict[str, float]:
    """The figures by name."""
    return asdict(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.handshake", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="whether it works, not how fast it is")
    print(handshake_table(measure(quick=parser.parse_args(arguments).quick)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
