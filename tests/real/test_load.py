"""Two hundred streams at once through one mesh hop, and what the node without a model weighs before and meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.real.kit import NodeProcess, Nodes, say, see_each_other, until

pytestmark = pytest.mark.real

STREAMS = 200
TOKENS = 20
BEHAVIOUR = {"tokens": TOKENS, "token_s": 0.1}
IDLE_BYTES = 80_000_000
BUSY_BYTES = 120_000_000


@dataclass
class Engine:
    """A fake engine that begins no answer before `go`."""

    process: subprocess.Popen[bytes]
    url: str

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    line = [sys.executable, "-m", "tests.real.fast_engine", str(STREAMS)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        try:
            yield Engine(process, process.stdout.readline().decode().strip())
        finally:
            process.kill()


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Iterator[NodeProcess]:
    """A node without a model, linked to one that has it."""
    with Nodes(tmp_path_factory.mktemp("load")) as nodes:
        server = nodes.add("server", "--engine-url", engine.url, mesh="127.0.0.1:0")
        entry = nodes.add("entry")
        see_each_other((server, entry), {"fake-model"})
        yield entry


class Scales(threading.Thread):
    """Weighs a process again and again until told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__()
        self.most = 0
        self._process = psutil.Process(pid)
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.05):
            self.most = max(self.most, self._process.memory_info().rss)

    def stop(self) -> int:
        self._over.set()
        self.join()
        return self.most


def test_two_hundred_streams_through_one_hop(entry: NodeProcess, engine: Engine) -> None:
    idle = psutil.Process(entry.pid).memory_info().rss
    scales = Scales(entry.pid)
    began = time.perf_counter()
    with entry.openai() as client, ThreadPoolExecutor(STREAMS) as pool:

        def ask(number: int) -> str:
            stream = client.chat.completions.create(
                model="fake-model",
                messages=[{"role": "user", "content": f"number {number}"}],
                stream=True,
                extra_body={"fake": BEHAVIOUR},
            )
            return "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)

        scales.start()
        try:
            answers = [pool.submit(ask, number) for number in range(STREAMS)]
            until(lambda: entry.status()["requests"]["running"] == STREAMS, "all run at once")
            engine.go()
            texts = [answer.result() for answer in answers]
        finally:
            busy = scales.stop()
    took_s = time.perf_counter() - began
    assert texts == ["".join(f"t{index} " for index in range(TOKENS))] * STREAMS
    until(lambda: entry.status()["requests"]["running"] == 0, "nothing is left of them")
    requests = entry.status()["requests"]
    assert (requests["failed"], requests["answered"]) == (0, STREAMS)
    say(f"{STREAMS} streams in {took_s:.1f} s; memory {idle / 1e6:.1f} MB idle, {busy / 1e6:.1f} MB at most under them")
    assert idle < IDLE_BYTES
    assert busy < BUSY_BYTES


def test_a_stream_that_nobody_reads_stops_no_other(entry: NodeProcess, engine: Engine) -> None:
    """More than fits into every buffer on the way is asked for and left unread; others are answered meanwhile."""
    engine.go()
    with entry.openai() as lazy, entry.openai() as client:
        unread = lazy.chat.completions.create(
            model="fake-model", messages=[{"role": "user", "content": "much"}], stream=True,
            extra_body={"fake": {"tokens": 40_000}},
        )  # fmt: skip
        assert next(iter(unread)).choices
        for _ in range(5):
            answer = client.chat.completions.create(model="fake-model", messages=[{"role": "user", "content": "few"}])
            assert answer.choices[0].message.content == "t0 t1 t2 t3 "
        unread.close()
    until(lambda: entry.status()["requests"]["running"] == 0, "nothing is left of it")
