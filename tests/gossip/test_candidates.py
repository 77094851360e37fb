"""Over which addresses a peer is dialled, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.gossip.candidates import MOST_ADDRESSES, MOST_PEERS, Candidates, is_loopback, well_formed
from meshnode.model.ids import NodeId

PEER = NodeId(b"p" * 32)


def test_what_worked_comes_first_then_what_is_told_then_where_its_own_link_came_from() -> None:
    found = Candidates()
    found.linked(PEER, "a:1", "")
    found.linked(PEER, "b:1", "")
    found.linked(PEER, None, "192.168.1.9")
    assert found.of(PEER, ("c:7", "b:1"), near=False) == ("b:1", "a:1", "c:7", "192.168.1.9:7")
    assert found.of(PEER, ("c:7", "b:1"), near=False, stale=True) == ("c:7", "b:1", "192.168.1.9:7", "a:1")


def test_only_the_last_two_that_worked_are_kept() -> None:
    found = Candidates()
    for address in ("a:1", "b:1", "c:1", "b:1"):
        found.linked(PEER, address, "")
    assert found.of(PEER, (), near=False) == ("b:1", "c:1")


@pytest.mark.parametrize(
    ("host", "candidate"),
    [
        ("192.168.1.9", "192.168.1.9:7"),
        ("2001:db8::9", "[2001:db8::9]:7"),
        ("fe80::9%3", "[fe80::9%3]:7"),
        ("::ffff:192.168.1.9", "192.168.1.9:7"),
    ],
)
def test_the_host_of_a_link_is_joined_with_the_advertised_port(host: str, candidate: str) -> None:
    found = Candidates()
    found.linked(PEER, None, host)
    assert found.of(PEER, ("[::5]:7",), near=False) == ("[::5]:7", candidate)
    assert found.of(PEER, (), near=False) == ()


def test_a_link_from_loopback_is_a_candidate_on_this_machine_only() -> None:
    found = Candidates()
    found.linked(PEER, None, "127.0.0.1")
    assert found.of(PEER, ("a:7",), near=False) == ("a:7",)
    assert found.of(PEER, ("a:7",), near=True) == ("a:7", "127.0.0.1:7")


@given(st.lists(st.integers(1, 40).map(lambda n: f"10.0.0.{n}:1"), max_size=20), st.booleans())
def test_never_more_than_eight_none_twice_and_what_links_taught_is_among_them(told: list[str], stale: bool) -> None:
    found = Candidates()
    found.linked(PEER, "worked:1", "192.168.1.9")
    where = found.of(PEER, told, near=False, stale=stale)
    assert len(where) <= MOST_ADDRESSES and len(set(where)) == len(where)
    assert "worked:1" in where and (not told or "192.168.1.9:1" in where)


def test_peers_are_bounded_the_one_linked_longest_ago_goes_first() -> None:
    found = Candidates()
    nodes = [NodeId(n.to_bytes(32, "big")) for n in range(MOST_PEERS + 1)]
    for peer in nodes[:-1]:
        found.linked(peer, "a:1", "")
    found.linked(nodes[0], "a:1", "")
    found.linked(nodes[-1], "a:1", "")
    kept = list(found)
    assert kept[:2] == [nodes[-1], nodes[0]] and len(kept) == MOST_PEERS and nodes[1] not in kept
    found.forget(nodes[0])
    assert found.of(nodes[0], (), near=False) == ()


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:1", "127.8.8.8", "[::1]:5", "::1", "localhost:1", "a.localhost:1", "0.0.0.0:1", "[::]:1", "::",
     "::ffff:127.0.0.1", "[::ffff:127.0.0.1]:1"],
)  # fmt: skip
def test_addresses_of_this_very_machine(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["10.0.0.1:5", "box.local:1", "[2001:db8::1]:1", "fe80::1%eth0", "128.0.0.1"])
def test_addresses_of_other_machines(address: str) -> None:
    assert not is_loopback(address)


def test_what_is_an_address() -> None:
    assert well_formed("box:1") and well_formed("[fe80::1%eth0]:6375")
    for bad in ("", "box", ":1", "box:0", "box:65536", "box:²", "box:1x", "x" * 128 + ":1"):
        assert not well_formed(bad)
