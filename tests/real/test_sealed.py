"""Four nodes in a row as processes: what the two in the middle have in memory and logs of a sealed stream that runs."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from meshnode.keep.home import Home
from tests.real.kit import Caller, EngineThread, NodeProcess, say, see_each_other, until

pytestmark = pytest.mark.real

ANSWER_MARK = b"chatcmpl-fake"
"""In each event of the fake engine's streams, and nowhere else."""

BEHAVIOUR = {"tokens": 400, "token_s": 0.05}
"""Twenty seconds: the memories are read while it runs."""


@dataclass
class Row:
    """alpha - bravo - charlie - delta; alpha is asked, delta has the engine."""

    nodes: dict[str, NodeProcess]
    engine: EngineThread

    def ask(self, canary: str, **headers: str) -> Caller:
        """A stream from alpha that runs, past its first tokens."""
        body: dict[str, Any] = {
            "model": "fake-model", "stream": True, "fake": BEHAVIOUR, "user": canary,
            "messages": [{"role": "user", "content": canary}],
        }  # fmt: skip
        return Caller(self.nodes["alpha"], "/v1/chat/completions", body, headers)


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Row]:
    folder = tmp_path_factory.mktemp("row")
    with ExitStack() as stack:
        engine = stack.enter_context(EngineThread(slots=8))
        nodes: dict[str, NodeProcess] = {}
        secret, before = "", ""
        for name in ("alpha", "bravo", "charlie", "delta"):
            home = folder / name
            home.mkdir(mode=0o700)
            kept = Home(home, time.time)
            kept.save_tofu_secret(secret) if secret else None
            secret = secret or kept.make_tofu_secret()
            peers = f'["{before}"]' if before else "[]"
            (home / "config.toml").write_text(f'[mesh]\ntrust = "psk-tofu"\ndial_learned = false\npeers = {peers}\n')
            engines = ("--engine-url", engine.url) if name == "delta" else ("--engines", "none")
            nodes[name] = stack.enter_context(NodeProcess(home, *engines, mesh="127.0.0.1:0", level="debug"))
            before = nodes[name].mesh
        see_each_other(list(nodes.values()), {"fake-model"})
        yield Row(nodes, engine)


def memory_of(pid: int) -> Iterator[bytes]:
    """Everything that a process can write to, region by region."""
    line = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (r\S+) \S+ \S+ \S+\s*(\S*)")
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for first, last, rights, name in (found.groups() for found in map(line.match, maps) if found):
            if "w" not in rights or name == "[vvar]":
                continue
            begin, end = int(first, 16), int(last, 16)
            try:
                memory.seek(begin)
                yield memory.read(end - begin)
            except OSError:
                # Gone since, or not memory: a device.
                continue


def holds(node: NodeProcess, mark: bytes) -> bool:
    """Whether `mark` is anywhere in a node's memory."""
    return any(mark in region for region in memory_of(node.pid))


@pytest.fixture
def readable(row: Row) -> None:
    try:
        assert holds(row.nodes["bravo"], b"meshnode")
    except OSError as error:
        pytest.skip(f"the memory of other processes cannot be read here: {error}")


@pytest.mark.usefixtures("readable")
def test_no_relay_has_prompt_or_answer_in_its_memory_or_log(row: Row) -> None:
    canary = f"canary{secrets.token_hex(12)}"
    mark = canary.encode()
    with row.ask(canary) as caller:
        head = caller.read_until(b"t20 ")
        assert b"x-meshnode-privacy: sealed" in head
        assert b"x-meshnode-path: alpha > bravo > charlie > delta" in head
        found = {name: (holds(node, mark), holds(node, ANSWER_MARK)) for name, node in row.nodes.items()}
        caller.read_until(b"t30 ")
    until(lambda: row.engine.cuts(), "who left has freed the engine")
    for relay in ("bravo", "charlie"):
        assert found[relay] == (False, False)
        assert not holds(row.nodes[relay], mark)
        assert mark not in row.nodes[relay].output
        assert ANSWER_MARK not in row.nodes[relay].output
    # What is looked for can be found: where it is read, both are.
    assert found["alpha"] == found["delta"] == (True, True)


@pytest.mark.usefixtures("readable")
def test_the_same_look_finds_an_open_request_in_its_relays(row: Row) -> None:
    canary = f"canary{secrets.token_hex(12)}"
    with row.ask(canary, **{"x-meshnode-privacy": "open"}) as caller:
        assert b"x-meshnode-privacy: open" in caller.read_until(b"t20 ")
        assert all(holds(row.nodes[relay], canary.encode()) for relay in ("bravo", "charlie"))
        assert not any(canary.encode() in row.nodes[relay].output for relay in ("bravo", "charlie"))


def test_a_sealed_stream_costs_what_an_open_one_does(row: Row) -> None:
    """Told, not asserted: benchmarks measure it."""
    took: dict[str, float] = {}
    with row.nodes["alpha"].openai() as client:
        for privacy in ("open", "sealed") * 2:
            began = time.perf_counter()
            for _ in range(50):
                answer = client.chat.completions.create(
                    model="fake-model", messages=[{"role": "user", "content": "hi"}],
                    extra_headers={"x-meshnode-privacy": privacy},
                )  # fmt: skip
                assert answer.choices[0].message.content == "t0 t1 t2 t3 "
            took[privacy] = (time.perf_counter() - began) / 50 * 1000
    say(", ".join(f"{privacy}: {ms:.2f} ms a request over three hops" for privacy, ms in took.items()))
