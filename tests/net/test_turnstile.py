from __future__ import annotations

from dataclasses import replace

from meshnode.config.mesh import MeshSection
from meshnode.net.turnstile import MAX_ADDRESSES, SHARE, Turnstile

SECTION = MeshSection()


def test_a_burst_then_a_rate_for_each_address() -> None:
    gate = Turnstile(SECTION)
    assert [gate.enter("10.0.0.1", 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert gate.enter("10.0.0.2", 0.0)
    assert gate.enter("10.0.0.1", 0.05)
    assert not gate.enter("10.0.0.1", 0.05)
    assert [gate.enter("10.0.0.1", 60.0) for _ in range(6)] == [True] * 5 + [False]


def test_half_open_connections_are_bounded_over_all_addresses() -> None:
    gate = Turnstile(replace(SECTION, half_open=2))
    assert gate.enter("10.0.0.1", 0.0)
    assert gate.enter("10.0.0.2", 0.0)
    assert not gate.enter("10.0.0.3", 0.0)
    gate.leave("10.0.0.2")
    assert gate.enter("10.0.0.3", 0.0)


def test_one_ipv6_network_is_one_address_and_so_is_a_mapped_one() -> None:
    gate = Turnstile(SECTION)
    assert [gate.enter(f"2001:db8::{n:x}", 0.0) for n in range(1, 7)] == [True] * 5 + [False]
    assert gate.enter("2001:db8:0:1::1", 0.0)
    assert [gate.enter(a, 0.0) for a in ["::ffff:10.0.0.1", "10.0.0.1"] * 3] == [True] * 5 + [False]
    assert gate.enter("fe80::1%eth0", 0.0)


def test_a_pipe_without_address_has_no_rate() -> None:
    gate = Turnstile(SECTION)
    assert all(gate.enter("", 0.0) for _ in range(20))


def test_the_table_is_bounded_and_forgets_no_offender_while_others_are_idle() -> None:
    gate = Turnstile(replace(SECTION, half_open=10**6))
    for _ in range(5):
        gate.enter("10.0.0.1", 99.9)
    for number in range(MAX_ADDRESSES + 500):
        now = 100.0 if number >= MAX_ADDRESSES - 1 else 0.0
        assert gate.enter(f"11.{number >> 16}.{number >> 8 & 255}.{number & 255}", now)
    assert len(gate._buckets) <= MAX_ADDRESSES
    assert gate._tokens("10.0.0.1", 100.0) < 5


def test_one_address_leaves_room_for_others_however_slow_its_handshakes_are() -> None:
    gate = Turnstile(SECTION)
    let_in = [gate.enter("10.0.0.1", second / 20) for second in range(20 * int(SECTION.handshake_timeout_s))]
    assert sum(let_in) == SECTION.half_open // SHARE
    assert gate.enter("10.0.0.2", 5.0)
    gate.leave("10.0.0.1")
    assert gate.enter("10.0.0.1", 5.0)
    assert not gate.enter("10.0.0.1", 5.0)
