"""The real embedded engine, end to end: what it offers it does, and nothing of it outlives its node."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from meshnode.config.engine import EngineSection
from meshnode.engine.adapter import Engine
from meshnode.engine.embedded import MODEL_NAME, Embedded
from meshnode.engine.engines import Engines
from meshnode.engine.models import ModelSource
from meshnode.errors import ContextExceeded, EngineFailed, EngineUnavailable
from tests.kit.waiting import soon

pytestmark = pytest.mark.real

SMALL = EngineSection(engines=("embedded",), embedded_context=512, embedded_slots=2, restart_min_s=0.05)


async def post(engine: Engine, route: str, **fields: Any) -> Any:
    got = await engine.serve(route, {}, json.dumps({"model": MODEL_NAME, **fields}).encode())
    return json.loads(b"".join([chunk async for chunk in got]))


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def test_the_embedded_engine_does_what_it_offers(nursery: trio.Nursery, model_folder: Path) -> None:
    engines = Engines(SMALL, model_folder, lambda: None)
    await nursery.start(engines.run)
    await engines.first_ready()
    (offer,) = engines.offers()
    assert (offer.name, offer.context, offer.slots) == (MODEL_NAME, 512, 2)
    assert {"chat", "completion", "embeddings"} <= set(offer.features)
    engine = engines.find(MODEL_NAME, {"chat"})
    assert engine is not None

    whole = await post(engine, "/v1/chat/completions", messages=said("hi"), max_tokens=4)
    assert whole["model"] == MODEL_NAME
    assert whole["usage"]["completion_tokens"] > 0
    assert (await post(engine, "/v1/completions", prompt="one two", max_tokens=4))["object"] == "text_completion"
    assert (await post(engine, "/v1/messages", messages=said("hi"), max_tokens=4))["role"] == "assistant"
    vectors = await post(engine, "/v1/embeddings", input=["one", "two"])
    assert [len(entry["embedding"]) for entry in vectors["data"]] == [576, 576]
    with pytest.raises(ContextExceeded):
        await post(engine, "/v1/chat/completions", messages=said("hello " * 600), max_tokens=4)

    body = json.dumps({"messages": said("hi"), "max_tokens": 4, "stream": True}).encode()
    stream = b"".join([chunk async for chunk in await engine.serve("/v1/chat/completions", {}, body)])
    assert stream.startswith(b"data: ") and stream.endswith(b"data: [DONE]\n\n")

    await _killed(engines)
    nursery.cancel_scope.cancel()


async def _killed(engines: Engines) -> None:
    """SIGKILL in the middle of a stream: the stream fails, and the engine comes back under the same name."""
    engine, embedded = engines.find(MODEL_NAME), engines.embedded
    assert engine is not None and embedded is not None and embedded.supervisor is not None
    pid = embedded.supervisor.pid
    assert pid is not None
    body = json.dumps({"messages": said("tell a long story"), "max_tokens": 400, "stream": True}).encode()
    stream = await engine.serve("/v1/chat/completions", {}, body)
    await anext(stream)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EngineFailed):
        async for _ in stream:
            pass
    await soon(lambda: embedded.engine is not engine and embedded.supervisor.pid not in (None, pid), "it runs anew")
    again = engines.find(MODEL_NAME)
    assert again is not None and again.name == engine.name
    assert (await post(again, "/v1/completions", prompt="one", max_tokens=2))["object"] == "text_completion"
    assert not psutil.pid_exists(pid)


NODE = """
import sys, trio
from pathlib import Path
from meshnode.config.engine import EngineSection
from meshnode.engine.engines import Engines

async def main():
    engines = Engines(EngineSection(engines=("embedded",), embedded_context=256, embedded_slots=1), Path(sys.argv[1]),
                      lambda: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(engines.run)
        await engines.first_ready()
        print(engines.embedded.supervisor.pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


async def test_a_node_killed_outright_leaves_no_engine_behind(model_folder: Path) -> None:
    node = subprocess.Popen(  # noqa: ASYNC220 - to be killed outright
        [sys.executable, "-c", NODE, str(model_folder)], stdout=subprocess.PIPE
    )
    assert node.stdout is not None
    with node.stdout:
        pid = int(await trio.to_thread.run_sync(node.stdout.readline))
    child = psutil.Process(pid)
    assert child.is_running()
    assert psutil.Process(node.pid).memory_info().rss < child.memory_info().rss
    node.kill()
    node.wait()
    await soon(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "its child has ended")


async def test_a_model_that_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "not.gguf").write_bytes(b"not a model")
    embedded = Embedded(SMALL, tmp_path, lambda: None, ModelSource(url=f"file://{tmp_path}/not.gguf"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(embedded.run)
        await soon(lambda: embedded.detail.startswith("exit status"), "it says that its child ended")
        nursery.cancel_scope.cancel()
    assert embedded.engine is None


async def test_missing_software_is_told_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    async with trio.open_nursery() as nursery:
        engines = Engines(SMALL, tmp_path, lambda: None)
        await nursery.start(engines.run)
        with pytest.raises(EngineUnavailable, match=r"pip install 'meshnode\[embedded\]'"):
            await engines.first_ready()
        assert engines.status()[0]["state"] == "down"
        nursery.cancel_scope.cancel()


async def test_a_node_that_may_not_fetch_says_so(tmp_path: Path) -> None:
    section = EngineSection(engines=("embedded",), download=False)
    async with trio.open_nursery() as nursery:
        engines = Engines(section, tmp_path, lambda: None)
        await nursery.start(engines.run)
        with pytest.raises(EngineUnavailable, match=r"engine\.download is off"):
            await engines.first_ready()
        nursery.cancel_scope.cancel()
