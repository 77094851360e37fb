from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from meshnode.gossip.wheel import Wheel
from tests.gossip.world import node_id

NODES = st.integers(0, 5).map(node_id)


class AgainstDictionary(RuleBasedStateMachine):
    """The wheel against a dictionary that is searched."""

    def __init__(self) -> None:
        super().__init__()
        self.wheel = Wheel()
        self.model: dict[bytes, float] = {}
        self.now = 100.0

    @rule(node=NODES, ahead=st.floats(0, 2000))
    def put(self, node, ahead) -> None:
        self.wheel.put(node, self.now + ahead, self.now)
        self.model[node] = self.now + ahead

    @rule(node=NODES)
    def remove(self, node) -> None:
        self.wheel.remove(node)
        self.model.pop(node, None)

    @rule(seconds=st.floats(0, 700))
    def due(self, seconds) -> None:
        self.now += seconds
        due = self.wheel.due(self.now)
        assert len(set(due)) == len(due)
        for node in due:
            assert self.model.pop(node) <= self.now, "never early"
        for at in self.model.values():
            assert self.now < at + 61.0, "at most a minute late"

    @rule()
    def next(self) -> None:
        coming = self.wheel.next()
        assert (coming is None) is (not self.model)
        if coming is not None:
            assert min(self.model.values()) <= coming < min(self.model.values()) + 61.0


TestAgainstDictionary = AgainstDictionary.TestCase
TestAgainstDictionary.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)


def test_is_exact_to_the_second_within_ten_minutes() -> None:
    wheel = Wheel()
    wheel.put(node_id(1), 100.2, 0.0)
    assert wheel.due(100.9) == []
    assert wheel.due(101.0) == [node_id(1)]


def test_moving_leaves_nothing_behind() -> None:
    wheel = Wheel()
    for now in range(20_000):
        wheel.put(node_id(now % 7), now + 86_400.0, float(now))
        wheel.put(node_id(now % 7), now + 180.0, float(now))
        wheel.due(float(now))
    assert len(wheel._times) < 2200
    assert len(wheel._times) == len(wheel._slots)
