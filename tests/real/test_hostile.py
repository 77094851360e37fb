"""A member that means no good, and strangers in thousands: a real node stands them, and its other links do not notice.

bravo asks and alpha serves, neither can be dialled, so everything between them passes the victim. Each attack is
bounded by count. What is measured is shown with `pytest -s`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import openai
import psutil
import pytest

from tests.real.attacks import BREACHES, CONFIG, DEAF, HELLO, NUISANCES, Attack, Scene
from tests.real.hostile import Attacker, Closed, Gauge, Papers
from tests.real.kit import PATIENCE_S, Caller, EngineThread, Nodes, say, see_each_other, until

pytestmark = pytest.mark.real

MIB = 1 << 20
MOST_GROWTH = 64 * MIB
"""reliability.md T15."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("hostile")
    with EngineThread(slots=64) as engine, Nodes(folder) as nodes:
        victim = nodes.add("victim", mesh="127.0.0.1:0", config=CONFIG)
        alpha = nodes.add("alpha", "--engine-url", engine.url, config=CONFIG)
        bravo = nodes.add("bravo", config=CONFIG)
        see_each_other((victim, alpha, bravo), {"fake-model"})
        body = {"model": "fake-model", "messages": HELLO, "stream": True, "fake": {"tokens": 9, "hang": "stream"}}
        with Caller(bravo, "/v1/chat/completions", body) as standing:
            standing.read_until(b"t0 ")
            scene = Scene(victim, alpha, bravo, engine, folder, standing)
            scene.ask()
            yield scene
            say("attacks, growth of the victim's memory, outcome", *scene.table)


@dataclass(frozen=True)
class Outcome:
    """What an attack came to: whether the victim ended the link over it, and the most memory it cost, in bytes."""

    papers: Papers
    closed: bool
    growth: int


def carry_out(scene: Scene, name: str, attack: Attack) -> Outcome:
    """Join, attack, and see that nobody else has noticed."""
    papers = scene.attacker()
    with Gauge(scene.victim.pid) as gauge, Attacker(papers, scene.victim, deaf=name in DEAF) as attacker:
        assert attacker.granted
        try:
            attacker.greet()
            attack(attacker, papers, scene)
            if name not in DEAF:
                attacker.fence()
            # What is wrong on a stream is found when the stream is read, after the fence.
            closed = name in BREACHES and attacker.closed.wait(PATIENCE_S)
        except Closed:
            closed = True
        scene.undisturbed()
    return Outcome(papers, closed, gauge.growth)


def note(scene: Scene, name: str, outcome: Outcome, end: str) -> None:
    """A line of the table."""
    words = scene.said_of(outcome.papers) if outcome.closed else ""
    scene.table.append(f"\n    {name:<30} {outcome.growth / MIB:6.1f} MiB  {end}{words and f': {words}'}")


ANYBODYS = {"garbage_after_the_handshake"}
"""Somebody on the way could have done it: the link ends, and nobody is shut out."""


@pytest.mark.parametrize("name", BREACHES)
def test_who_breaks_the_protocol_is_shut_out(scene: Scene, name: str) -> None:
    outcome = carry_out(scene, name, BREACHES[name])
    with Attacker(outcome.papers, scene.victim) as again:
        let_in = again.granted
    note(scene, name, outcome, f"{'closed' if outcome.closed else 'OPEN'}, {'LET IN AGAIN' if let_in else 'shut out'}")
    assert outcome.growth < MOST_GROWTH
    assert outcome.closed
    assert let_in == (name in ANYBODYS)
    scene.undisturbed()


@pytest.mark.parametrize("name", NUISANCES)
def test_who_is_a_nuisance_costs_little(scene: Scene, name: str) -> None:
    outcome = carry_out(scene, name, NUISANCES[name])
    note(scene, name, outcome, "closed" if outcome.closed else "open")
    assert outcome.growth < MOST_GROWTH
    until(lambda: scene.victim.status()["requests"]["for_peers"] == 0, "nothing of the attacker's runs")
    scene.undisturbed()


ROUNDS = 5
STRANGERS = 10_000


def test_strangers_in_thousands_are_hardly_noticed(scene: Scene) -> None:
    """One costs the victim less than a request that passes it. Counted in the victim's own time on a processor, which
    the machine's other work does not make longer, as it does what clients wait: that is told."""
    idle: list[float] = []
    busy: list[float] = []
    alone_s = among_s = 0.0
    with Gauge(scene.victim.pid) as gauge:
        for _ in range(ROUNDS):
            began_s = worked_s(scene)
            idle += round_trips(scene, 200)
            between_s = worked_s(scene)
            busy += round_trips_among(scene, STRANGERS // ROUNDS)
            alone_s, among_s = alone_s + between_s - began_s, among_s + worked_s(scene) - between_s
    request_s = alone_s / len(idle)
    stranger_s = (among_s - request_s * len(busy)) / STRANGERS
    say(
        f"{STRANGERS} strangers: {gauge.growth / MIB:.1f} MiB, 0 bytes; a request costs the victim",
        f"{request_s * 1e6:.0f} us, a stranger {stranger_s * 1e6:.0f} us; p99 of round trips",
        f"{p99(idle) * 1000:.1f} ms, among {len(busy)} {p99(busy) * 1000:.1f} ms",
    )
    assert gauge.growth < MOST_GROWTH
    assert scene.victim.status()["mesh"]["nodes"] == 3
    scene.undisturbed()
    assert stranger_s < request_s


def worked_s(scene: Scene) -> float:
    """What the victim has had of processors since it was started."""
    used = psutil.Process(scene.victim.pid).cpu_times()
    return float(used.user + used.system)


def round_trips(scene: Scene, count: int) -> list[float]:
    """Seconds of requests from bravo by way of the victim to alpha, one after another."""
    with scene.bravo.openai() as client:
        return [round_trip(client) for _ in range(count)]


def round_trips_among(scene: Scene, strangers: int) -> list[float]:
    """The same, for as long as it takes so many strangers to knock."""
    host, _, port = scene.victim.mesh.rpartition(":")
    line = [sys.executable, "-m", "tests.real.strangers", host, port, str(strangers)]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as flood, scene.bravo.openai() as client:
        found = []
        while flood.poll() is None:
            found.append(round_trip(client))
        assert flood.stdout is not None
        told = json.loads(flood.stdout.read())
    assert flood.returncode == 0
    assert told == {"connections": strangers, "bytes": 0}
    return found


def round_trip(client: openai.OpenAI) -> float:
    """One."""
    began = time.perf_counter()
    client.chat.completions.create(model="fake-model", messages=HELLO, max_tokens=1)  # type: ignore[arg-type]
    return time.perf_counter() - began


def p99(seconds: list[float]) -> float:
    """The value that one in a hundred is above."""
    return sorted(seconds)[len(seconds) * 99 // 100]
