"""A client whose request waits in another machine's queue: its stream says where it stands.

Through relays: tests/dispatch/test_places.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.kit import Caller, EngineThread, Nodes, see_each_other, until

pytestmark = pytest.mark.real

CHAT = "/v1/chat/completions"
HANGS = {
    "model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}], "fake": {"hang": "prefill"},
}  # fmt: skip


def test_a_stream_that_waits_at_another_machine_is_told_its_place_as_it_moves_up(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes, EngineThread(models=("m",), slots=1) as engine:
        server = nodes.add("server", "--engine-url", engine.url, mesh="127.0.0.1:0")
        asker = nodes.add("asker", config="[front]\nkeepalive_s = 0.3\n")
        see_each_other([server, asker], {"m"})
        with Caller(asker, CHAT, HANGS) as served:
            engine.started(1)
            with Caller(asker, CHAT, HANGS) as second:
                second.read_until(b": queued 1\n\n")
                with Caller(asker, CHAT, HANGS) as third:
                    third.read_until(b": queued 2\n\n")
                    until(lambda: asker.status()["requests"]["queued_elsewhere"] == 2, "two wait")
                    served.leave()
                    third.read_until(b": queued 1\n\n")
        until(lambda: asker.status()["requests"]["queued_elsewhere"] == 0, "nobody waits")
