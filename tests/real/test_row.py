"""Four machines in a row, each wire a network of its own: what wires, relays' memories and logs hold of a stream.

And a second way around the first relay, which is killed. Counterpart: test_sealed.py, on one machine.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from meshnode.keep.home import Home
from tests.real.kit import Caller, EngineThread, say, until
from tests.real.lab import HostNode, Lab, Segment, lacking
from tests.real.test_sealed import ANSWER_MARK, BEHAVIOUR, holds

pytestmark = pytest.mark.real

WIRES = {"alpha-bravo": 1, "bravo-charlie": 2, "charlie-delta": 3, "alpha-echo": 4, "echo-charlie": 5}
DIALS = {"bravo": ["10.81.1.1"], "charlie": ["10.81.2.1", "10.81.5.1"], "delta": ["10.81.3.1"], "echo": ["10.81.4.1"]}
"""Whom each machine dials: the one before it, at its address on the wire between them."""


@cache
def no_lab() -> str:
    """Why there is none."""
    return lacking(nat=False)


@dataclass
class Row:
    """alpha - bravo - charlie - delta, and alpha - echo - charlie. delta has the engine."""

    nodes: dict[str, HostNode]
    wires: dict[str, Segment]
    engine: EngineThread

    def ask(self, canary: str, **headers: str) -> Caller:
        """A stream from alpha that runs, past its first tokens."""
        body: dict[str, Any] = {
            "model": "fake-model", "stream": True, "fake": BEHAVIOUR, "user": canary,
            "messages": [{"role": "user", "content": canary}],
        }  # fmt: skip
        alpha = self.nodes["alpha"]
        return alpha.host.inside(Caller, alpha, "/v1/chat/completions", body, headers)


@pytest.fixture
def row(tmp_path: Path) -> Iterator[Row]:
    if reason := no_lab():
        pytest.skip(reason)
    with Lab(tmp_path) as lab:
        names = ("alpha", "bravo", "echo", "charlie", "delta")
        hosts = {name: lab.host(name) for name in names}
        wires = {wire: lab.segment(f"wire{number}") for wire, number in WIRES.items()}
        for wire, number in WIRES.items():
            for place, name in enumerate(wire.split("-"), 1):
                hosts[name].plug(wires[wire], f"10.81.{number}.{place}/24")
        engine = hosts["delta"].engine(slots=8)
        # A second way comes later: until then echo is cut off, and the row is the only one. Cut before anybody is
        # linked: what is sent into a cut would wait for the kernel's next retransmission long after it is mended.
        hosts["echo"].cables[0].cut()
        nodes: dict[str, HostNode] = {}
        secret = ""
        for name in names:
            peers = ", ".join(f'"{address}:6375"' for address in DIALS.get(name, ()))
            engines = ("--engine-url", engine.url) if name == "delta" else ("--engines", "none")
            config = f'[mesh]\nmdns = false\ntrust = "psk-tofu"\ndial_learned = false\npeers = [{peers}]\n'
            node = nodes[name] = hosts[name].node(*engines, config=config, start=False)
            kept = Home(node.home, time.time)
            kept.save_tofu_secret(secret) if secret else None
            secret = secret or kept.make_tofu_secret()
            node.start()
        until(lambda: "fake-model" in nodes["alpha"].models(), "alpha knows the engine of delta")
        until(lambda: nodes["alpha"].peers().get("delta") == "relay", "alpha reaches delta through others")
        yield Row(nodes, wires, engine)


def test_wires_relays_and_logs_hold_nothing_of_a_sealed_stream_but_all_of_an_open_one(row: Row) -> None:
    found: dict[str, dict[str, bool]] = {}
    relays = ("bravo", "charlie")
    with ExitStack() as stack:
        captures = [stack.enter_context(wire.capture()) for wire in row.wires.values()]
        for privacy in ("sealed", "open"):
            canary = f"canary{secrets.token_hex(12)}"
            with row.ask(canary, **{"x-meshnode-privacy": privacy}) as caller:
                head = caller.read_until(b"t20 ")
                assert b"x-meshnode-privacy: " + privacy.encode() in head
                assert b"x-meshnode-path: alpha > bravo > charlie > delta" in head
                found[privacy] = {name: holds(row.nodes[name], canary.encode()) for name in ("alpha", *relays, "delta")}
                if privacy == "sealed":
                    assert not any(holds(row.nodes[name], ANSWER_MARK) for name in relays)
                caller.read_until(b"t30 ")
            for relay in relays:
                assert canary.encode() not in row.nodes[relay].output
            frames = [frame for capture in captures for frame in capture.frames]
            assert len(frames) > 100
            assert not any(canary.encode() in frame or ANSWER_MARK in frame for frame in frames)
    assert found["sealed"] == {"alpha": True, "bravo": False, "charlie": False, "delta": True}
    # The same look finds what can be found.
    assert found["open"] == {"alpha": True, "bravo": True, "charlie": True, "delta": True}


def test_new_requests_go_another_way_at_once_when_a_relay_is_killed(row: Row) -> None:
    alpha, echo = row.nodes["alpha"], row.nodes["echo"]
    echo.host.cables[0].restore()
    until(lambda: alpha.peers().get("echo") == "direct", "alpha and echo are linked")
    until(lambda: {"bravo", "echo"} <= _links(alpha, "charlie"), "charlie says so of both")
    until(lambda: all("charlie" in _links(alpha, name) for name in ("bravo", "echo")), "and both of charlie")
    assert alpha.ask("fake-model")[1].endswith(" > charlie > delta")
    relay = alpha.ask("fake-model")[1].split(" > ")[1]
    row.nodes[relay].kill()
    began = time.perf_counter()
    text, path = alpha.ask("fake-model")
    took_s = time.perf_counter() - began
    other = "echo" if relay == "bravo" else "bravo"
    assert (text.startswith("t0 "), path) == (True, f"alpha > {other} > charlie > delta")
    say(f"answered by another way {took_s:.3f} s after the relay was killed")


def _links(node: HostNode, peer: str) -> set[str]:
    """Whom `peer` is linked to, as far as `node` has heard."""
    return {link for entry in node.status()["peers"] if entry["name"] == peer for link in entry["links"]}
