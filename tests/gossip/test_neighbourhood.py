"""Which links of a large mesh are kept and which are closed, whatever they are like and whoever is asked for."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.config.mesh import MeshSection
from meshnode.gossip.book import Book
from meshnode.gossip.heat import COLD_S
from meshnode.gossip.neighbourhood import Held, Neighbourhood
from meshnode.gossip.overlay_events import Condition
from meshnode.gossip.shedding import LONELY, SHARE, YOUNG_S
from meshnode.gossip.targets import Kind, Target
from meshnode.gossip.views import ANCHORS, Views
from meshnode.model.advert import Advert, Neighbour
from meshnode.model.ids import NodeId

ME = NodeId(bytes(32))
HOST = b"here...."
NOW = 10_000.0
SECTION = MeshSection(full_mesh_nodes=4, active_links=4, chosen_links=2, accepted_links=2, passive_nodes=16)


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(32, "big"))


def advert(peer: NodeId, neighbours: int = 8, addresses: tuple[str, ...] | None = None) -> Advert:
    near = tuple(Neighbour((1000 + n).to_bytes(32, "big"), 1) for n in range(neighbours))
    where = (f"10.0.{peer[-1]}.1:1",) if addresses is None else addresses
    return Advert(bytes(peer), b"m" * 32, 1, 1, 180, addresses=where, neighbours=near)


@dataclass
class Peer:
    """A link: who wanted it (`how`), how old it is, whether it is in use, and what its peer tells of itself."""

    how: str = "other"
    age_s: float = 100.0
    streams: int = 0
    neighbours: int | None = 8
    rtt_s: float | None = 0.01


def around(peers: Mapping[NodeId, Peer], seed: int = 1, nodes: int = 100) -> Neighbourhood:
    """A neighbourhood with these links, in a mesh of so many."""
    made = Neighbourhood(
        SECTION, random.Random(seed), Book(ME, HOST, True), Views(SECTION, random.Random(seed)), lambda _: b""
    )
    made.views.resize(nodes)
    for peer, link in peers.items():
        if link.neighbours is not None:
            made.book.learn(peer, advert(peer, link.neighbours))
        made.linked[peer] = Held(NOW - link.age_s, dialled=link.how == "chosen")
        if link.how == "chosen":
            made.views.choose(peer, ("", b""))
            made.book.targets[peer] = Target(Kind.KNOWN, (), 0.0)
        elif link.how == "named":
            address = f"10.9.0.{peer[-1]}:1"
            made.book.targets[address] = Target(Kind.NAMED, (address,), 0.0)
            made.book.behind[address] = peer
        elif link.how in ("hot", "cold"):
            made.heat.heat(peer, NOW - (COLD_S if link.how == "cold" else 0.0))
    return made


def look(near: Neighbourhood, peers: Mapping[NodeId, Peer]) -> list[NodeId]:
    return near.look({peer: Condition(link.rtt_s, link.streams) for peer, link in peers.items()}, NOW)


links = st.builds(
    Peer,
    st.sampled_from(["other", "chosen", "named", "hot", "cold"]),
    st.floats(0.0, 200.0),
    st.integers(0, 1),
    st.none() | st.integers(0, 12),
    st.none() | st.floats(0.0, 1.0),
)
scenes = st.lists(links, max_size=24).map(lambda found: {node(n): link for n, link in enumerate(found, 1)})


@settings(deadline=None)
@given(scenes, st.integers(0, 2**32))
def test_no_link_is_closed_that_is_named_or_hot_in_use_or_young_or_that_its_peer_needs(
    peers: dict[NodeId, Peer], seed: int
) -> None:
    closed = look(around(peers, seed), peers)
    assert len(set(closed)) == len(closed)
    for peer in closed:
        link = peers[peer]
        assert link.how not in ("named", "hot")
        assert not link.streams and link.age_s >= YOUNG_S
        assert link.neighbours is not None and link.neighbours > LONELY


@settings(deadline=None)
@given(scenes, st.integers(0, 2**32))
def test_of_the_chosen_one_at_most_goes_never_an_anchor_and_never_below_what_is_needed(
    peers: dict[NodeId, Peer], seed: int
) -> None:
    near = around(peers, seed)
    chosen = [peer for peer, link in peers.items() if link.how == "chosen"]
    given_up = [peer for peer in look(near, peers) if peer in chosen]
    assert len(given_up) <= 1
    assert not set(given_up) & set(chosen[:ANCHORS])
    if given_up:
        assert len(chosen) > SECTION.chosen_links and len(peers) > SECTION.active_links


@settings(deadline=None)
@given(scenes, st.integers(0, 2**32))
def test_of_those_that_others_chose_only_a_part_of_what_is_too_many_goes_at_once(
    peers: dict[NodeId, Peer], seed: int
) -> None:
    """A link that was asked for often, and is no more, makes room for another: none goes besides for it."""
    closed = look(around(peers, seed), peers)
    cooled = [peer for peer in closed if peers[peer].how == "cold"]
    others = [peer for peer, link in peers.items() if link.how in ("other", "cold")]
    for_room = [peer for peer in closed if peers[peer].how == "other"]
    too_many = max(0, len(others) - len(cooled) - SECTION.accepted_links)
    assert len(for_room) <= -(-too_many // SHARE)


def test_a_link_that_was_hot_is_closed_once_and_takes_no_other_with_it() -> None:
    peers = {node(1): Peer("cold"), node(2): Peer(age_s=50.0), node(3): Peer(age_s=60.0)}
    assert look(around(peers), peers) == [node(1)]


def test_what_is_being_closed_counts_no_more_until_it_has_ended() -> None:
    peers = {node(n): Peer() for n in range(1, 5)}
    near = around(peers)
    (closed,) = look(near, peers)
    assert set(near.staying) == set(peers) - {closed}
    near.linked[node(9)] = Held(NOW)
    assert closed not in look(near, peers)
    assert near.ended(closed, NOW).since == NOW - 100.0
    near.linked[closed] = Held(NOW)
    # A new link to the same node is another link.
    assert closed in near.staying


def test_a_node_that_was_given_up_is_dialled_no_more_for_it_and_a_named_one_still_is() -> None:
    peers = {node(n): Peer("chosen", rtt_s=0.0) for n in range(1, 7)} | {node(9): Peer("named")}
    near = around(peers)
    (given_up,) = look(near, peers)
    assert given_up not in near.book.targets and not near.wants(given_up)
    assert near.book.of_kind(Kind.NAMED)
    assert all(near.wants(peer) for peer in peers if peers[peer].how == "chosen" and peer != given_up)


@pytest.mark.parametrize(("nodes", "closes"), [(100, True), (4, False)])
def test_where_everybody_is_linked_to_all_nothing_is_closed(nodes: int, closes: bool) -> None:
    peers = {node(n): Peer() for n in range(1, 12)}
    near = around(peers, nodes=nodes)
    assert bool(look(near, peers)) == closes
    assert near.wants(node(50)) != closes


def test_a_link_without_a_condition_is_left_alone() -> None:
    """It ended, or began, while the links were looked at."""
    peers = {node(n): Peer() for n in range(1, 12)}
    assert around(peers).look({}, NOW) == []


def test_rounds_come_about_as_often_as_is_set_and_never_while_the_mesh_is_small() -> None:
    near = around({}, nodes=4)
    near.switch(NOW)
    assert not near.round_due(NOW + 10**6)
    near.views.resize(100)
    near.switch(NOW)
    rounds, now = [NOW], NOW
    while len(rounds) < 200:
        now += 0.5
        if near.round_due(now):
            rounds.append(now)
    apart = [after - before for before, after in itertools.pairwise(rounds)]
    assert all(0.8 * SECTION.swap_s <= s <= 1.2 * SECTION.swap_s + 0.5 for s in apart)
    assert len(set(apart)) > 5, "all nodes of a mesh would look at once"


def test_when_the_mesh_grows_large_what_was_dialled_is_what_was_chosen_as_far_as_there_is_room() -> None:
    peers = {node(n): Peer("chosen" if n % 2 else "other") for n in range(1, 14)}
    near = around(peers)
    near.views.chosen.clear()
    near.switch(NOW)
    dialled = [peer for peer, link in peers.items() if link.how == "chosen"]
    assert list(near.views.chosen) == dialled[: SECTION.active_links]
    # Whom it knows besides is not dialled any more, and no link ends by it.
    assert set(near.book.of_kind(Kind.KNOWN)) == set(near.views.chosen)
    assert set(near.staying) == set(peers)


def test_a_node_whose_advert_ended_is_chosen_no_more_unless_it_is_linked() -> None:
    near = around({node(1): Peer("chosen")})
    near.views.choose(node(2), ("", b""))
    for peer in (node(1), node(2)):
        near.offer(peer, advert(peer))
        assert near.lost(peer)
        assert not near.lost(peer)
    assert list(near.views.chosen) == [node(1)]


def test_who_cannot_be_dialled_from_here_is_never_chosen() -> None:
    near = around({})
    dialable, alone, elsewhere = node(1), node(2), node(3)
    near.book.learn(dialable, advert(dialable))
    near.book.learn(alone, advert(alone, addresses=()))
    near.book.learn(elsewhere, advert(elsewhere, addresses=("127.0.0.1:1",)))
    for peer, said in near.book.adverts.items():
        near.offer(peer, said)
    assert near.choose(lambda *_: False, NOW) == [dialable]


@settings(deadline=None)
@given(st.sets(st.integers(1, 40), max_size=30), st.integers(0, 2**32))
def test_as_many_are_chosen_as_are_lacking_and_none_that_is_barred(barred: set[int], seed: int) -> None:
    near = around({}, seed)
    for number in range(1, 41):
        near.book.learn(node(number), advert(node(number)))
        near.offer(node(number), near.book.adverts[node(number)])
    shut = {node(number) for number in barred}
    picked, now = [], NOW
    for _ in range(20):
        picked += near.choose(lambda peer, _: peer in shut, now)
        now += 10.0
    assert len(picked) == len(set(picked)) and not shut & set(picked)
    assert len(picked) <= SECTION.active_links
    free = {peer for peer in near.views.passive if peer not in shut}
    assert len(picked) == SECTION.active_links or free <= set(picked)


def test_a_sample_of_which_half_is_gone_is_filled_again_from_those_that_live() -> None:
    near = around({})
    for number in range(1, 41):
        near.book.learn(node(number), advert(node(number)))
    near.book.learn(ME, advert(ME))
    near.look({}, NOW)
    assert len(near.views.passive) == SECTION.passive_nodes
    assert ME not in near.views.passive
