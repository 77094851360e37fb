"""The virtual links: what a link delivers is what was sent on it, in order and without a gap, until it breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from tests.simulation.loop import Loop
from tests.simulation.network import Network, Wire

PING_S, MISSES = 5.0, 3


@dataclass(eq=False)
class End:
    """As much of a node as the network asks for."""

    number: int
    loop: Loop
    world: Any
    heard: list[int] = field(default_factory=list)
    ended: bool = False
    life: int = 1
    slow: float = 1.0
    up: bool = True
    frozen: bool = False

    def after(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        self.loop.after(seconds, call, *args)

    def lost(self, _: Wire) -> None:
        self.ended = True


class Pair:
    """One link between two ends, and what was sent from each."""

    def __init__(self, seed: int) -> None:
        self.network = Network(Loop(), seed, PING_S, MISSES)
        world = SimpleNamespace(network=self.network)
        self.ends = End(0, self.network.loop, world), End(1, self.network.loop, world)
        self.wire = self.network.wire(*cast("tuple[Any, Any]", self.ends))
        self.sent: tuple[list[int], list[int]] = ([], [])

    def send(self, end: int) -> None:
        self.sent[end].append(len(self.sent[end]))
        self.network.send(self.wire, cast("Any", self.ends[end]), hear, self.sent[end][-1])

    def cut(self, end: int, cut: bool) -> None:
        self.network.cuts[end, 1 - end] = int(cut)
        self.network.reassess()

    def freeze(self, end: int, frozen: bool) -> None:
        self.ends[end].frozen = frozen
        self.network.reassess()


def hear(node: Any, _: Wire, what: int) -> None:
    assert not node.frozen, "nothing is heard by who stands still"
    node.heard.append(what)


a_step = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 1)),
    st.tuples(st.just("cut"), st.integers(0, 1)),
    st.tuples(st.just("heal"), st.integers(0, 1)),
    st.tuples(st.just("freeze"), st.integers(0, 1)),
    st.tuples(st.just("thaw"), st.integers(0, 1)),
    st.tuples(st.just("wait"), st.sampled_from((0.001, 0.01, 0.1, 0.5, 5.0))),
)


@given(st.integers(0, 9), st.sampled_from((0.0, 0.3)), st.lists(a_step, max_size=60))
def test_a_link_delivers_in_order_and_without_a_gap_whatever_lies_between(
    seed: int, loss: float, steps: list[tuple[str, Any]]
) -> None:
    pair = Pair(seed)
    pair.network.loss = loss
    for what, value in steps:
        match what:
            case "send":
                pair.send(value)
            case "cut" | "heal":
                pair.cut(value, what == "cut")
            case "freeze" | "thaw":
                pair.freeze(value, what == "freeze")
            case _:
                pair.network.loop.run(pair.network.loop.now + value)
        for end in (0, 1):
            heard = pair.ends[1 - end].heard
            assert heard == pair.sent[end][: len(heard)]
    for end in (0, 1):
        pair.cut(end, False)
        pair.freeze(end, False)
    pair.network.loop.run(pair.network.loop.now + 60.0)
    if not any(pair.wire.closed):
        assert [pair.ends[1].heard, pair.ends[0].heard] == [*pair.sent], "a link that did not break brings all"


def test_what_is_in_flight_when_a_cut_heals_does_not_overtake_what_waited_in_it() -> None:
    pair = Pair(seed=1)
    one_way_s = pair.wire.one_way_s
    pair.cut(0, True)
    pair.send(0)
    pair.network.loop.run(2 * one_way_s)
    pair.send(0)
    pair.cut(0, False)
    pair.network.loop.run(4 * one_way_s)
    pair.send(0)
    pair.network.loop.run(2.0)
    assert pair.ends[1].heard == [0, 1, 2]


def test_a_link_that_passes_nothing_is_given_up_by_both_ends() -> None:
    pair = Pair(seed=1)
    pair.cut(0, True)
    pair.network.loop.run((MISSES + 1) * PING_S)
    assert pair.ends[0].ended
    assert pair.ends[1].ended
    assert not pair.network.wires
