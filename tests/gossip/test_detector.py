"""One machine watching its neighbours, told by hand what they say and do not say."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.config.gossip import GossipSection
from meshnode.gossip import (
    Cleared,
    Command,
    Dead,
    Describe,
    Event,
    Facts,
    Gossip,
    Heard,
    Leave,
    NeighbourDown,
    NeighbourUp,
    Received,
    Reported,
    Send,
    Suspected,
    Tick,
    Violation,
)
from meshnode.gossip.messages import (
    Ack,
    AckFor,
    Adverts,
    Carried,
    Message,
    Probe,
    ProbeFor,
    Suspect,
    decode_message,
    encode_message,
)
from meshnode.model.advert import Advert, Neighbour
from meshnode.model.ids import NodeId
from tests.gossip.world import MESH, describe, machine, node_id, signed

ME, A, B, C, D = (node_id(n) for n in range(5))
SECTION = GossipSection(anti_entropy_s=86_400.0, refresh_s=86_400.0, lifetime_s=86_400.0, probed=1000)
LOAD = Facts(1, 2, 3, 400)


class Bench:
    """One machine, its clock, and neighbours that answer as they are told to. Each is linked to all others."""

    def __init__(self, *neighbours: NodeId, section: GossipSection = SECTION, load: Facts | None = None) -> None:
        self.now = 0.0
        self.made = machine(ME, section)
        self.made._detector._facts = lambda: load
        self.log: list[tuple[float, Command]] = []
        self._seen = 0
        self.answers: dict[NodeId, float] = {}
        """Neighbours that answer probes, and after how long."""
        self.tell(Describe(describe(ME, "me")))
        for node in neighbours:
            self.tell(NeighbourUp(node))
            linked = tuple(Neighbour(other, 1) for other in (ME, *neighbours) if other != node)
            self.hear(node, Adverts((Carried(signed(Advert(node, MESH, 1, 1, 86_400, neighbours=linked)), 86_400),)))
            self.answers[node] = 0.001
        self._due: list[tuple[float, NodeId, Message]] = []

    def tell(self, event: Event) -> list[Command]:
        commands = self.made.handle(event, self.now)
        self.log += [(self.now, command) for command in commands]
        return commands

    def hear(self, frm: NodeId, message: Message) -> list[Command]:
        return self.tell(Received(frm, encode_message(message)))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            for _, command in self.log[self._seen :]:
                if isinstance(command, Send) and command.to in self.answers:
                    message = decode_message(command.data)
                    if isinstance(message, Probe):
                        answer = Ack(message.number, None)
                        self._due.append((self.now + self.answers[command.to], command.to, answer))
            self._seen = len(self.log)
            self._due.sort(key=lambda item: item[0])
            wakeup = self.made.next_wakeup()
            at = min(wakeup if wakeup is not None else end, self._due[0][0] if self._due else end)
            if at >= end:
                self.now = end
                return
            self.now = at
            if self._due and self._due[0][0] <= at:
                _, frm, message = self._due.pop(0)
                self.hear(frm, message)
            else:
                self.tell(Tick())

    def seen(self, kind: type[Command], since: float = 0.0) -> list[Command]:
        return [command for at, command in self.log if isinstance(command, kind) and at >= since]

    def dead(self) -> list[NodeId]:
        return [command.node for _, command in self.log if isinstance(command, Dead)]

    def sent(self, kind: type[Message], since: float = 0.0) -> list[tuple[NodeId, Message]]:
        frames = [(c.to, decode_message(c.data)) for at, c in self.log if isinstance(c, Send) and at >= since]
        return [(to, message) for to, message in frames if isinstance(message, kind)]

    def silence(self, *nodes: NodeId) -> None:
        for node in nodes:
            del self.answers[node]


def test_each_neighbour_is_probed_about_once_a_period_and_none_that_answers_is_suspected() -> None:
    bench = Bench(A, B, C)
    bench.run(100.0)
    probes = bench.sent(Probe)
    for node in (A, B, C):
        assert 95 <= sum(to == node for to, _ in probes) <= 135
    assert bench.seen(Suspected) == bench.seen(Dead) == []
    assert bench.made.suspected == frozenset()


def test_a_probe_is_answered_with_its_number_and_this_nodes_load() -> None:
    bench = Bench(A, B, load=LOAD)
    assert bench.hear(A, Probe(77, None)) == [Send(A, encode_message(Ack(77, LOAD)))]


def test_load_that_neighbours_tell_is_reported_and_goes_no_further() -> None:
    bench = Bench(A, B)
    commands = bench.hear(A, Probe(1, LOAD))
    assert commands[1:] == [Reported(A, LOAD)]
    assert bench.hear(B, Ack(5, Facts(0, 9, 4, 100))) == [Reported(B, Facts(0, 9, 4, 100))]


def test_who_probes_this_node_is_not_probed_by_it() -> None:
    bench = Bench(A, B)
    for n in range(40):
        bench.hear(A, Probe(n, None))
        bench.run(0.5)
    assert {to for to, _ in bench.sent(Probe)} == {B}


def test_more_neighbours_than_a_period_has_probes_are_probed_in_turn() -> None:
    nodes = [node_id(100 + n) for n in range(32)]
    bench = Bench(*nodes, section=GossipSection(anti_entropy_s=86_400.0, refresh_s=86_400.0, probed=16))
    bench.run(100.0)
    assert 32 * 40 <= len(bench.sent(Probe)) <= 32 * 70, "every other second each"


def test_a_silent_neighbour_is_asked_for_then_suspected_then_dead() -> None:
    bench = Bench(A, B, C, D)
    bench.run(5.0)
    bench.silence(A)
    bench.run(1.6)
    asked = bench.sent(ProbeFor, 5.0)
    assert {to for to, _ in asked} == {B, C, D}
    bench.run(0.5)
    assert bench.seen(Suspected) == [Suspected(A)]
    assert bench.made.suspected == {A}
    assert next(to for to, _ in bench.sent(Suspect)) == A, "the suspect is told first"
    assert {to for to, _ in bench.sent(Suspect)} == {A, B, C, D}
    [(_, said), *_] = bench.sent(Suspect)
    assert said == Suspect(A, 1, 1)
    bench.run(3.0)
    assert bench.seen(Dead) == []
    bench.run(1.5)
    assert bench.dead() == [A]
    bench.run(100.0)
    assert len(bench.seen(Dead)) == len(bench.seen(Suspected)) == 1, "said once"
    bench.tell(NeighbourDown(A))
    assert bench.made.suspected == frozenset()


def test_at_most_three_are_asked_to_try_and_only_who_is_linked_to_the_silent_one() -> None:
    nodes = [node_id(10 + n) for n in range(8)]
    bench = Bench(A, *nodes)
    bench.run(2.0)
    for n, node in enumerate(nodes[:6]):
        bench.hear(node, Adverts((Carried(signed(Advert(node, MESH, 1, 2, 86_400, name=str(n))), 86_400),)))
    bench.silence(A)
    bench.run(4.0)
    assert {to for to, _ in bench.sent(ProbeFor)} <= set(nodes[6:])


def test_confirmations_shorten_a_suspicion_only_from_who_could_know() -> None:
    def lasts(accusers: list[NodeId]) -> float:
        bench = Bench(A, B, C, D, node_id(9))
        bench.hear(node_id(9), Adverts((Carried(signed(Advert(node_id(9), MESH, 1, 2, 86_400)), 86_400),)))
        bench.run(5.0)
        bench.silence(A)
        while not bench.seen(Suspected):
            bench.run(0.05)
        since = bench.now
        for node in accusers * 3:
            bench.hear(node, Suspect(A, 1, 1))
        while not bench.seen(Dead):
            bench.run(0.05)
        return bench.now - since

    alone, one, two, three = (lasts([B, C, D][:n]) for n in range(4))
    assert 3.8 < alone < 4.2
    assert 1.8 < three < 2.2
    assert three < two < one < alone
    assert abs(lasts([node_id(9)]) - alone) < 0.2, "its advert does not list the suspect"


def test_accusations_from_before_its_last_word_count_no_more() -> None:
    bench = Bench(A, B, C, D)
    bench.run(5.0)
    for node in (B, C, D):
        bench.hear(node, Suspect(A, 1, 1))
    bench.run(0.1)
    bench.silence(A)
    bench.run(5.0)
    assert bench.made.suspected == {A}
    assert bench.dead() == []


def test_any_frame_of_the_suspect_ends_the_suspicion() -> None:
    for word in (Ack(0, None), Probe(9, None), Suspect(D, 0, 0), Adverts(())):
        bench = Bench(A, B)
        bench.run(3.0)
        bench.silence(A)
        bench.run(2.2)
        assert bench.made.suspected == {A}
        assert Cleared(A) in bench.hear(A, word)
        assert bench.made.suspected == frozenset()
        bench.answers[A] = 0.001
        bench.run(30.0)
        assert bench.seen(Dead) == []


def test_bytes_on_the_link_that_are_no_gossip_are_life_too() -> None:
    bench = Bench(A)
    bench.run(3.0)
    bench.silence(A)
    for _ in range(100):
        bench.tell(Heard(A))
        bench.run(0.3)
    assert bench.seen(Suspected) == []
    bench.run(10.0)
    assert bench.dead() == [A]


def test_who_others_reach_keeps_its_silent_link_for_longer_but_gets_nothing_new() -> None:
    bench = Bench(A, B, C)
    bench.run(3.0)
    bench.silence(A)
    while not bench.sent(ProbeFor):
        bench.run(0.05)
    (helper, ask), *_ = bench.sent(ProbeFor)
    assert isinstance(ask, ProbeFor)
    bench.hear(helper, AckFor(A, ask.number))
    bench.run(10.0)
    assert bench.made.suspected == {A}
    assert bench.sent(Suspect) == [], "the node lives: nobody else need look"
    assert bench.seen(Dead) == []
    bench.run(8.0)
    [dead] = bench.seen(Dead)
    assert isinstance(dead, Dead)
    assert "others reach" in dead.reason


def test_a_newer_advert_speaks_for_the_suspect() -> None:
    bench = Bench(A, B, C)
    bench.run(3.0)
    bench.silence(A)
    bench.run(2.2)
    bench.hear(B, Adverts((Carried(signed(Advert(A, MESH, 1, 2, 86_400)), 86_400),)))
    bench.run(8.0)
    assert bench.made.suspected == {A}
    assert bench.seen(Dead) == []


def test_nobody_is_believed_to_reach_a_node_who_was_not_asked_under_that_number() -> None:
    bench = Bench(A, B, C)
    bench.run(3.0)
    bench.silence(A)
    while not bench.sent(ProbeFor):
        bench.run(0.05)
    [(_, ask), *_] = bench.sent(ProbeFor)
    assert isinstance(ask, ProbeFor)
    number = ask.number
    bench.tell(NeighbourUp(D))
    bench.hear(D, AckFor(A, number))
    bench.hear(B, AckFor(A, number + 1))
    bench.hear(B, AckFor(node_id(50), number))
    bench.run(8.0)
    assert A in bench.dead()


def test_who_is_asked_to_try_a_node_tries_and_tells_when_it_speaks() -> None:
    bench = Bench(A, B, C)
    commands = bench.hear(B, ProbeFor(A, 5))
    [send] = [c for c in commands if isinstance(c, Send)]
    assert send.to == A
    assert isinstance(decode_message(send.data), Probe)
    assert Send(B, encode_message(AckFor(A, 5))) in bench.hear(A, Ack(1, None))
    assert not any(isinstance(c, Send) for c in bench.hear(A, Ack(1, None))), "told once"
    assert bench.hear(B, ProbeFor(node_id(50), 5)) == [], "no neighbour of this node"
    assert bench.hear(B, ProbeFor(B, 5)) == []
    assert bench.hear(B, ProbeFor(ME, 5)) == []


def test_who_hears_an_accusation_looks_for_itself_at_once() -> None:
    bench = Bench(A, B, C)
    bench.run(3.0)
    bench.hear(A, Probe(1, None))
    bench.silence(A)
    commands = bench.hear(B, Suspect(A, 1, 1))
    assert [c.to for c in commands if isinstance(c, Send)] == [A]
    bench.run(1.2)
    assert bench.made.suspected == {A}


def test_the_accused_speaks_to_its_accuser_and_says_a_newer_advert_but_not_without_end() -> None:
    bench = Bench(A, B)
    order = bench.made.adverts(0.0)[ME].order
    commands = bench.hear(A, Suspect(ME, *order))
    sent = [(c.to, decode_message(c.data)) for c in commands if isinstance(c, Send)]
    assert sent[0] == (A, Ack(0, None))
    assert {to for to, message in sent if isinstance(message, Adverts)} == {A, B}
    assert bench.made.adverts(0.0)[ME].order > order
    for _ in range(100):
        bench.hear(A, Suspect(ME, *bench.made.adverts(0.0)[ME].order))
    assert bench.made.adverts(0.0)[ME].order[1] <= order[1] + 2
    older = bench.made.adverts(0.0)[ME].order
    bench.now = 1000.0
    bench.hear(A, Suspect(ME, *order))
    assert bench.made.adverts(1000.0)[ME].order <= (older[0], older[1] + 1), "only its renewal"


def test_a_process_that_was_stopped_suspects_nobody_when_it_goes_on() -> None:
    for stopped_s in (1.0, 5.0, 60.0, 3600.0):
        bench = Bench(A, B, C)
        bench.run(10.3)
        bench.now += stopped_s
        bench.tell(Tick())
        bench.run(0.05)
        for node in (A, B, C):
            bench.hear(node, Probe(1, None))
        bench.run(30.0)
        assert bench.seen(Suspected) == []


def test_a_process_stopped_while_it_waits_for_an_answer_gives_that_time_back() -> None:
    bench = Bench(A, B)
    bench.run(5.0)
    bench.silence(A)
    bench.run(2.2)
    assert bench.made.suspected == {A}
    bench.now += 20.0
    bench.tell(Tick())
    assert bench.seen(Dead) == []
    bench.hear(A, Ack(0, None))
    assert bench.made.suspected == frozenset()


def test_a_distant_neighbour_gets_the_time_that_its_distance_needs() -> None:
    bench = Bench(A, B)
    bench.answers[A] = 0.4
    bench.run(60.0)
    assert bench.seen(Suspected) == []
    probes = [to for to, _ in bench.sent(Probe, 20.0)]
    assert probes.count(A) <= 12 < 35 <= probes.count(B)
    bench.answers[A] = 2.5
    bench.run(60.0)
    assert bench.seen(Suspected) == []
    bench.silence(A)
    bench.run(25.0)
    assert bench.seen(Dead) == []
    bench.run(10.0)
    assert bench.dead() == [A]


def test_one_stall_does_not_make_a_near_neighbour_distant() -> None:
    bench = Bench(A)
    bench.run(10.0)
    bench.answers[A] = 0.9
    bench.run(1.5)
    bench.answers[A] = 0.001
    since = bench.now
    bench.run(20.0)
    assert len(bench.sent(Probe, since)) >= 18


def test_who_misses_several_at_once_doubts_itself() -> None:
    def found(silent: int) -> float:
        nodes = [node_id(10 + n) for n in range(8)]
        bench = Bench(*nodes)
        bench.run(5.0)
        bench.silence(*nodes[:silent])
        while not bench.seen(Dead):
            bench.run(0.1)
        return bench.now - 5.0

    assert found(1) < 6.0 < 2 * found(1) < found(8)


def test_a_link_that_replaced_another_starts_anew() -> None:
    bench = Bench(A, B)
    bench.run(3.0)
    bench.silence(A)
    bench.run(2.2)
    assert bench.tell(NeighbourUp(A))[0] == Cleared(A)
    assert bench.made.suspected == frozenset()


def test_before_it_is_described_and_after_it_left_it_probes_nobody() -> None:
    made = machine(ME, SECTION)
    made.handle(NeighbourUp(A), 0.0)
    assert made.next_wakeup() is None or made.handle(Tick(), 50.0) == []
    made.handle(Describe(describe(ME)), 100.0)
    assert made.next_wakeup() is not None
    made.handle(Leave(), 101.0)
    assert [c for c in made.handle(Tick(), 500.0) if isinstance(c, Send | Suspected | Dead)] == []


STEPS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 3), st.floats(0.0, 4.0) | st.floats(0.0, 60.0)), max_size=60
)


@settings(deadline=None, max_examples=150)
@given(STEPS)
def test_whatever_neighbours_do_its_word_on_them_is_consistent(steps: list[tuple[int, int, float]]) -> None:
    nodes = (A, B, C, D)
    made: Gossip = machine(ME, GossipSection(anti_entropy_s=86_400.0))
    made.handle(Describe(describe(ME, "me")), 0.0)
    now, up, doubted, dead = 0.0, set[NodeId](), set[NodeId](), set[NodeId]()
    heard: dict[NodeId, float] = {}
    for what, which, wait_s in steps:
        wakeup = made.next_wakeup()
        # Sometimes woken when it asked to be, sometimes late or by others.
        now = wakeup if wakeup is not None and what == 3 and wait_s > 1.0 else now + wait_s
        node, other = nodes[which], nodes[(which + 1) % 4]
        messages: dict[int, Message] = {
            4: Ack(2**31 + which, None),
            5: Probe(which, LOAD),
            6: Suspect(other, 0, 0),
            7: ProbeFor(other, which),
            8: AckFor(other, which),
            9: Suspect(ME, 2**60, 0),
        }
        match what:
            case 0 | 1:
                event: Event = NeighbourUp(node)
            case 2:
                event = NeighbourDown(node)
            case 3:
                event = Tick()
            case _:
                event = Received(node, encode_message(messages[what]))
        commands = made.handle(event, now)
        if isinstance(event, NeighbourUp):
            up.add(node)
            heard[node] = now
        elif isinstance(event, NeighbourDown):
            up.discard(node)
            doubted.discard(node)
            dead.discard(node)
        elif isinstance(event, Received) and node in up:
            heard[node] = now
        for command in commands:
            match command:
                case Send(to, data):
                    assert to in up
                    decode_message(data)
                case Suspected(about):
                    assert about in up and about not in doubted
                    assert now - heard[about] >= 0.9
                    doubted.add(about)
                case Cleared(about):
                    assert about in doubted
                    doubted.discard(about)
                    dead.discard(about)
                case Dead(about, _):
                    assert about in doubted and about not in dead
                    assert now - heard[about] >= 2.9
                    dead.add(about)
                case Violation():
                    raise AssertionError(command)
        assert made.suspected == doubted
        wakeup = made.next_wakeup()
        assert wakeup is None or wakeup > now


def test_adverts_of_suspects_are_kept() -> None:
    """A suspicion is about a link of this node, not about what others may say."""
    bench = Bench(A, B)
    bench.run(2.0)
    bench.silence(A)
    bench.run(10.0)
    assert bench.dead() == [A]
    assert A in bench.made.adverts(bench.now)
