"""What holds of the overlay whatever happens: any order of events, any failures."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshnode.config.mesh import MeshSection
from meshnode.gossip.overlay import Overlay
from meshnode.gossip.overlay_events import (
    Asked,
    AskToDial,
    Breached,
    Changed,
    Condition,
    Dial,
    Event,
    Failed,
    Forgotten,
    Heard,
    Known,
    Linked,
    Look,
    Looked,
    Redial,
    Requested,
    Shed,
    Tick,
    Unlinked,
)
from meshnode.gossip.targets import Key
from meshnode.gossip.views import PARTED_S
from meshnode.model.advert import Advert, Neighbour
from meshnode.model.ids import NodeId

HOST = b"here...."
ME = NodeId(bytes(32))
PEERS = [NodeId(bytes([n]) * 32) for n in range(1, 9)]
ADDRESSES = [f"10.0.0.{n}:1" for n in range(1, 9)]
NAMED = (ADDRESSES[0], ADDRESSES[1], "10.9.9.9:1")
DIALS = 3

peers = st.sampled_from(PEERS)


def advert(peer: NodeId, *addresses: str, order: tuple[int, int] = (1, 1)) -> Advert:
    near = tuple(Neighbour(bytes([n]) * 32, 1) for n in range(3))
    return Advert(bytes(peer), b"m" * 32, *order, 180, addresses=addresses, neighbours=near)


class Rules(RuleBasedStateMachine):
    """Any order of events; every dial is answered once, well or not."""

    def __init__(self) -> None:
        super().__init__()
        self.section = MeshSection(
            peers=NAMED, dials=DIALS, hints=4, full_mesh_nodes=5, active_links=4, chosen_links=2, accepted_links=1
        )
        remembered = {PEERS[2]: (ADDRESSES[2],), PEERS[7]: (ADDRESSES[7], ADDRESSES[6])}
        self.machine = Overlay(ME, HOST, self.section, random.Random(7), remembered)
        self.now = 0.0
        self.flying: dict[Key, tuple[str, ...]] = {}
        self.linked: set[NodeId] = set()
        self.leaving: set[NodeId] = set()
        self.shut_until: dict[NodeId, float] = {}
        self.asked_at: list[float] = []
        self.busy: set[NodeId] = set()
        self.named: set[NodeId] = set()
        self.tell(Tick())

    def tell(self, event: Event) -> None:
        for command in self.machine.handle(event, self.now):
            match command:
                case Dial(target, addresses):
                    self.took_off(target, addresses)
                case AskToDial(peer):
                    assert peer not in self.linked and not self.shut(peer)
                    assert not self.asked_at or self.now - self.asked_at[-1] >= 6.0
                    self.asked_at.append(self.now)
                case Look():
                    links = {peer: Condition(0.01, int(peer in self.busy)) for peer in self.linked}
                    self.tell(Looked(links))
                case Shed(peer):
                    assert peer in self.linked and peer not in self.busy and peer not in self.named
                    self.leaving.add(peer)

    def took_off(self, target: Key, addresses: tuple[str, ...]) -> None:
        assert target not in self.flying and 1 <= len(addresses) <= 8
        busy = {address for flight in self.flying.values() for address in flight}
        assert busy.isdisjoint(addresses)
        if isinstance(target, NodeId):
            assert target not in self.linked and not self.shut(target) and target != ME
        self.flying[target] = addresses
        assert len(self.flying) <= DIALS

    def shut(self, peer: NodeId) -> bool:
        return self.shut_until.get(peer, -1.0) > self.now

    @rule(chosen=st.lists(peers, unique=True), order=st.integers(1, 3), own=st.booleans(), addresses=st.data())
    def gossip(self, chosen: list[NodeId], order: int, own: bool, addresses: st.DataObject) -> None:
        said = {
            peer: advert(peer, *addresses.draw(st.lists(st.sampled_from(ADDRESSES), max_size=3))) for peer in chosen
        }
        said[ME] = advert(ME, *(("10.0.0.200:1",) if own else ()), order=(1, order))
        self.tell(Known(said))

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), peer=peers, works=st.booleans())
    def land(self, data: st.DataObject, peer: NodeId, works: bool) -> None:
        target = data.draw(st.sampled_from(sorted(self.flying, key=str)))
        addresses = self.flying.pop(target)
        answered = target if isinstance(target, NodeId) else peer
        if works and not self.shut(answered):
            self.linked.add(answered)
            if target in NAMED:
                self.named.add(answered)
            self.tell(Linked(answered, target, addresses[0]))
        else:
            self.tell(Failed(target, answered if works else None))

    @rule(peer=peers)
    def accepted(self, peer: NodeId) -> None:
        if not self.shut(peer):
            self.linked.add(peer)
            self.tell(Linked(peer, host="192.168.0.9"))

    @precondition(lambda self: self.linked)
    @rule(data=st.data())
    def ended(self, data: st.DataObject) -> None:
        peer = data.draw(st.sampled_from(sorted(self.linked)))
        self.linked.discard(peer)
        self.leaving.discard(peer)
        self.tell(Unlinked(peer))

    @precondition(lambda self: self.linked)
    @rule(data=st.data())
    def parted(self, data: st.DataObject) -> None:
        peer = data.draw(st.sampled_from(sorted(self.linked)))
        self.linked.discard(peer)
        self.leaving.discard(peer)
        self.tell(Unlinked(peer, parted=True))

    @rule(peer=peers, alive=st.booleans(), order=st.integers(1, 4), address=st.sampled_from(ADDRESSES))
    def changed(self, peer: NodeId, alive: bool, order: int, address: str) -> None:
        self.tell(Changed({peer: advert(peer, address, order=(order, 1)) if alive else None}))

    @rule(peer=peers, count=st.integers(1, 12))
    def asked_often(self, peer: NodeId, count: int) -> None:
        for _ in range(count):
            self.tell(Requested(peer))

    @rule(busy=st.sets(peers))
    def in_use(self, busy: set[NodeId]) -> None:
        self.busy = busy

    @rule(peer=peers)
    def breached(self, peer: NodeId) -> None:
        if not self.shut(peer):
            # At least so long; longer at the next time.
            self.shut_until[peer] = self.now + self.section.quarantine_s
        self.tell(Breached(peer))
        assert self.machine.shut_out(peer, self.now) is not None
        if peer in self.linked:
            self.linked.discard(peer)
            self.tell(Unlinked(peer))

    @rule(peer=peers)
    def others(self, peer: NodeId) -> None:
        self.tell(Asked(peer))

    @rule(peer=peers)
    def forgotten(self, peer: NodeId) -> None:
        self.tell(Forgotten(peer))

    @rule(number=st.integers(1, 40))
    def heard(self, number: int) -> None:
        self.tell(Heard(f"10.0.0.{number}:1"))

    @rule()
    def moved(self) -> None:
        self.tell(Redial("moved"))

    @rule(seconds=st.floats(0.01, 5000.0))
    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while (wakeup := self.machine.next_wakeup()) is not None and wakeup <= until:
            assert wakeup > self.now
            self.now = wakeup
            self.tell(Tick())
        self.now = until
        self.tell(Tick())

    @invariant()
    def nothing_grows(self) -> None:
        assert len(self.machine._book.targets) <= len(NAMED) + len(PEERS) + self.section.hints
        assert set(self.machine._book.behind) <= set(self.machine._book.targets)

    @invariant()
    def every_named_address_is_linked_or_dialled_or_will_be(self) -> None:
        for address in NAMED:
            peer = self.machine._book.behind.get(address)
            idle = address not in self.flying and peer not in self.linked
            if idle and not self.flying:
                due = self.machine.next_wakeup()
                assert due is not None and due <= self.now + max(self.section.quarantine_max_s, 2 * PARTED_S)


TestRules = Rules.TestCase
TestRules.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 8), st.integers(0, 30))
@settings(deadline=None, max_examples=60)
def test_every_wanted_peer_that_can_be_reached_is_linked_however_many_hang(
    seed: int, reachable: int, dials: int, hanging: int
) -> None:
    """`hanging` named addresses take 7 s to fail, each time; hints too. The others answer."""
    section = MeshSection(
        peers=tuple(f"dead-{n}:1" for n in range(hanging)), dials=dials, full_mesh_nodes=1000, redial_max_s=5.0
    )
    machine = Overlay(ME, HOST, section, random.Random(seed))
    living = {NodeId(n.to_bytes(32, "big")): f"10.0.{n}.1:1" for n in range(1, reachable + 1)}
    landings: list[tuple[float, Dial]] = []
    linked: set[NodeId] = set()
    now = 0.0
    commands = machine.handle(Known({peer: advert(peer, where) for peer, where in living.items()}), now)
    commands += [c for n in range(20) for c in machine.handle(Heard(f"hint-{n}:1"), now)]
    while linked != set(living):
        assert now < 60.0 + 7.0 * (hanging + reachable + 20) * 4
        landings += [
            (now + (0.01 if dial.target in living else 7.0), dial) for dial in commands if isinstance(dial, Dial)
        ]
        assert len(landings) <= dials
        wakeup = machine.next_wakeup()
        landing = min(landings, key=lambda one: one[0], default=None)
        if landing is not None and (wakeup is None or landing[0] <= wakeup):
            landings.remove(landing)
            now, target = landing[0], landing[1].target
            if isinstance(target, NodeId):
                linked.add(target)
                commands = machine.handle(Linked(target, target, living[target]), now)
            else:
                commands = machine.handle(Failed(target), now)
        else:
            assert wakeup is not None
            now = wakeup
            commands = machine.handle(Tick(), now)
