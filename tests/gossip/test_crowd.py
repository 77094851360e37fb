"""How many members one network may bring."""

from __future__ import annotations

import pytest

from meshnode.gossip.crowd import MOST, crowded


def test_the_seventeenth_of_one_network_is_one_too_many() -> None:
    hosts = [f"192.168.1.{n}" for n in range(1, MOST + 1)]
    assert crowded(hosts, "192.168.1.200") and crowded(hosts, "::ffff:192.168.1.200")
    assert not crowded(hosts[:-1], "192.168.1.200") and not crowded(hosts, "192.168.2.1")
    six = [f"2001:db8::{n:x}" for n in range(1, MOST + 1)]
    assert crowded(six, "2001:db8::ffff") and not crowded(six, "2001:db8:0:1::1")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "", "pipe"])
def test_this_machines_own_nodes_are_not_counted(host: str) -> None:
    assert not crowded([host] * 100, host)


def test_link_local_networks_are_told_apart_by_nothing_but_their_bits() -> None:
    assert crowded([f"fe80::{n}%2" for n in range(1, MOST + 1)], "fe80::9999%3")
