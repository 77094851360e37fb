from __future__ import annotations

import pytest

from benchmarks.handshake import Handshake, handshake_table, members, shake
from meshnode.noise import Established


def test_two_members_shake_hands_and_judge_each_other() -> None:
    dialler, listener = members()
    seen = []

    def judge(member: object, found: Established) -> None:
        peer, _ = (dialler if member is dialler else listener).check(found.remote_payload, found.remote_static)
        seen.append(peer)

    shake(dialler, listener, judge)
    assert seen == [listener.key.id, dialler.key.id]


@pytest.mark.parametrize(("cpu_us", "verdict"), [(999.0, "pass"), (1001.0, "miss")])
def test_the_table_says_what_is_met(cpu_us: float, verdict: str) -> None:
    lines = handshake_table(Handshake(cpu_us, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)).splitlines()
    assert verdict in lines[2]
    assert "<= 1" in lines[2]
