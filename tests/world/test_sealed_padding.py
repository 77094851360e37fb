"""What a relay can tell of a sensitive answer in its tunnel: how many classes of 256 bytes at a time, and no token."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.dispatch import remote, wire
from meshnode.model.job import Label
from meshnode.mux.mux import PAD_BYTES
from meshnode.net import LinkStream
from tests.kit.world import LAST, Papers, ScriptedEngine, WorldNode, world

TOKENS = [
    b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % (b"x" * length) for length in range(1, 120, 7)
]
SCRIPT = [part for token in TOKENS for part in (token, 0.1)]


async def sizes_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: Label, script: list[bytes | float | Exception]
) -> set[int]:
    """Sizes of what the relay passes on of one answer, from its server's side, but for its end with the trailers."""
    seen: dict[LinkStream, list[int]] = defaultdict(list)
    async with world(tmp_path) as where:
        nodes: list[WorldNode] = []
        engine = ScriptedEngine("m", script)
        for name in "abc":
            nodes.append(
                await where.add(
                    name, peers=(nodes[-1].name,) if nodes else (), engine=engine if name == "c" else None,
                    settings={"mesh": {"dial_learned": False}}, papers=Papers(root=not nodes),
                )
            )  # fmt: skip
        a, b, c = nodes
        await a.until_reachable({"b", "c"}, model_of="c")
        await c.until_reachable({"a", "b"})
        tunnel = await a.member.mesh.tunnels.link(c.id)
        # Which nodes may have it is routing's affair; here it has been chosen.
        job = a.job("m", label=label)
        envelope = wire.envelope_of(job, 1, c.id, trio.current_time())
        answer = await remote.ask(tunnel.link, envelope, job.body, a.id, "c", leases=a.around.leases)
        arrived = LinkStream.arrived

        def note(stream: LinkStream, data: bytes, flow: int) -> None:
            if stream._link is b.member.link(c.id):
                seen[stream].append(len(data))
            arrived(stream, data, flow)

        monkeypatch.setattr(LinkStream, "arrived", note)
        body = b"".join([chunk async for chunk in answer])
        assert body == b"".join(part for part in script if isinstance(part, bytes))
        monkeypatch.undo()
    # Pings and gossip have streams of their own, or are no larger than a record's frame.
    passed = max(seen.values(), key=len)
    return {size for size in passed[:-1] if size > 60}


async def test_tokens_of_a_sensitive_answer_all_look_alike_to_its_relay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    sizes = await sizes_seen(tmp_path, monkeypatch, Label.SENSITIVE, [*SCRIPT, LAST])
    assert len({size % PAD_BYTES for size in sizes}) == 1
    assert len(sizes) <= 2
    assert min(sizes) > PAD_BYTES


async def test_without_the_label_each_token_shows_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    sizes = await sizes_seen(tmp_path, monkeypatch, Label.INTERNAL, [*SCRIPT, LAST])
    assert len(sizes) > 8
