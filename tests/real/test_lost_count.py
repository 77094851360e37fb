"""A node whose home has lost its count of starts, or was put back to an older one: it comes back and serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.real.kit import EngineThread, NodeProcess, Nodes, see_each_other

pytestmark = pytest.mark.real

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
FAR_AHEAD = b"9000000000\n"
"""Later than any clock, so that the clock does not make up for what is lost."""


@pytest.mark.parametrize("lost", ["deleted", "restored"])
def test_who_lost_count_of_its_starts_while_it_was_off_is_not_put_aside_and_serves(tmp_path: Path, lost: str) -> None:
    with Nodes(tmp_path) as nodes, EngineThread(models=("m",)) as engine:
        asker = nodes.add("asker", mesh="127.0.0.1:0")
        witness = nodes.add("witness", mesh="127.0.0.1:0")
        server = nodes.add("server", "--engine-url", engine.url)
        mesh = [asker, witness, server]
        counter = server.home / "incarnation"
        again(server, mesh, FAR_AHEAD)
        counted = int(counter.read_bytes())
        again(server, mesh, None if lost == "deleted" else FAR_AHEAD)
        with asker.openai() as client:
            raw = client.chat.completions.with_raw_response.create(model="m", messages=HELLO)
        assert raw.headers["x-meshnode-node"] == "server"
        assert int(counter.read_bytes()) > counted, "what its neighbours showed it is kept"
        for node in mesh:
            assert b"two different adverts" not in node.output, node


def again(node: NodeProcess, mesh: list[NodeProcess], counted: bytes | None) -> None:
    """Kill it, put that in the place of its count of starts, and start it."""
    see_each_other(mesh, {"m"})
    node.kill()
    counter = node.home / "incarnation"
    counter.unlink()
    if counted is not None:
        counter.touch(mode=0o600)
        counter.write_bytes(counted)
    node.start()
    see_each_other(mesh, {"m"})
