from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.config.mesh import MeshSection
from meshnode.net.turnstile import MAX_ADDRESSES, SHARE, Turnstile

SECTION = MeshSection()


def test_a_burst_then_turns_at_a_rate_for_each_address() -> None:
    gate = Turnstile(SECTION)
    assert [gate.enter("10.0.0.1", 0.0) for _ in range(7)] == pytest.approx([0.0] * 5 + [0.05, 0.1])
    assert gate.enter("10.0.0.2", 0.0) == 0.0
    assert gate.enter("10.0.0.1", 0.05) == pytest.approx(0.1)
    for _ in range(8):
        gate.leave("10.0.0.1")
    assert [gate.enter("10.0.0.1", 60.0) for _ in range(6)] == pytest.approx([0.0] * 5 + [0.05])


@given(st.lists(st.tuples(st.floats(0.0, 0.2), st.booleans()), max_size=60))
def test_turns_keep_to_the_rate_whoever_comes_and_leaves(arrivals: list[tuple[float, bool]]) -> None:
    gate, now, inside, starts = Turnstile(SECTION), 0.0, 0, []
    for pause_s, leaves in arrivals:
        now += pause_s
        if leaves and inside:
            gate.leave("10.0.0.1")
            inside -= 1
        wait_s = gate.enter("10.0.0.1", now)
        # Refused only while that many of this address have not left.
        assert (wait_s is None) == (inside == SECTION.half_open // SHARE)
        if wait_s is not None:
            assert 0 <= wait_s <= SECTION.handshake_timeout_s / 2
            inside += 1
            starts.append(now + wait_s)
    assert starts == sorted(starts)
    for first, last in zip(starts, starts[SECTION.handshake_burst :], strict=False):
        assert last - first >= 1 / SECTION.handshakes_per_s - 1e-9


def test_whose_turn_would_come_too_late_is_refused() -> None:
    gate = Turnstile(replace(SECTION, handshakes_per_s=1))
    assert [gate.enter("10.0.0.1", 0.0) for _ in range(8)] == [0.0] * 5 + [1.0, 2.0, None]
    # The refused one holds nothing.
    assert gate.enter("10.0.0.1", 1.0) == 2.0


def test_half_open_connections_are_bounded_over_all_addresses() -> None:
    gate = Turnstile(replace(SECTION, half_open=2))
    assert gate.enter("10.0.0.1", 0.0) == 0.0
    assert gate.enter("10.0.0.2", 0.0) == 0.0
    assert gate.enter("10.0.0.3", 0.0) is None
    gate.leave("10.0.0.2")
    assert gate.enter("10.0.0.3", 0.0) == 0.0


def test_one_ipv6_network_is_one_address_and_so_is_a_mapped_one() -> None:
    gate, burst_then_turn = Turnstile(SECTION), pytest.approx([0.0] * 5 + [0.05])
    assert [gate.enter(f"2001:db8::{n:x}", 0.0) for n in range(1, 7)] == burst_then_turn
    assert gate.enter("2001:db8:0:1::1", 0.0) == 0.0
    assert [gate.enter(a, 0.0) for a in ["::ffff:10.0.0.1", "10.0.0.1"] * 3] == burst_then_turn
    assert gate.enter("fe80::1%eth0", 0.0) == 0.0


def test_a_pipe_without_address_has_no_rate() -> None:
    gate = Turnstile(SECTION)
    assert [gate.enter("", 0.0) for _ in range(20)] == [0.0] * 20


def test_the_table_is_bounded_and_forgets_no_offender_while_others_are_idle() -> None:
    gate = Turnstile(replace(SECTION, half_open=10**6))
    for _ in range(5):
        gate.enter("10.0.0.1", 99.9)
    for number in range(MAX_ADDRESSES + 500):
        now = 100.0 if number >= MAX_ADDRESSES - 1 else 0.0
        assert gate.enter(f"11.{number >> 16}.{number >> 8 & 255}.{number & 255}", now) == 0.0
    assert len(gate._buckets) <= MAX_ADDRESSES
    assert gate._tokens("10.0.0.1", 100.0) < 5


def test_one_address_leaves_room_for_others_however_slow_its_handshakes_are() -> None:
    gate = Turnstile(SECTION)
    let_in = [gate.enter("10.0.0.1", second / 20) for second in range(20 * int(SECTION.handshake_timeout_s))]
    assert len(let_in) - let_in.count(None) == SECTION.half_open // SHARE
    assert gate.enter("10.0.0.2", 5.0) == 0.0
    gate.leave("10.0.0.1")
    assert gate.enter("10.0.0.1", 5.0) == 0.0
    assert gate.enter("10.0.0.1", 5.0) is None
