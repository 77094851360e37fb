"""Three nodes, one with the embedded engine, and the OpenAI client at each: charlie reaches alpha only by bravo."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from tests.real.kit import NodeProcess, Nodes, command, exists, say, see_each_other, until

pytestmark = pytest.mark.real

MODEL = "smollm2:135m"
QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


ONE_THREAD = "[engine]\nembedded_threads = 1\n"
"""llama.cpp's threads wait for each other by spinning: with one for each core, any other work on the machine makes
every token ten times as slow."""


def lend(model_folder: Path, home: Path) -> None:
    """Put the model files into a home without copying them, where the file system can."""
    try:
        shutil.copytree(model_folder, home / "models", copy_function=os.link)
    except OSError:
        shutil.copytree(model_folder, home / "models", dirs_exist_ok=True)
    (home / "models").chmod(0o700)


@dataclass
class Mesh:
    """alpha has the engine and no listener, bravo listens, charlie has neither."""

    nodes: Nodes
    alpha: NodeProcess
    bravo: NodeProcess
    charlie: NodeProcess


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[Mesh]:
    with Nodes(tmp_path_factory.mktemp("mesh")) as nodes:
        bravo = nodes.add("bravo", mesh="127.0.0.1:0")
        charlie = nodes.add("charlie")
        alpha = nodes.add(
            "alpha", "--engines", "embedded", config=ONE_THREAD, before=lambda home: lend(model_folder, home)
        )
        assert alpha.event("settled")["models"] == [MODEL]
        began = time.perf_counter()
        see_each_other((alpha, bravo, charlie), {MODEL})
        say(f"every node lists every model {time.perf_counter() - began:.3f} s after alpha has it")
        yield Mesh(nodes, alpha, bravo, charlie)


@pytest.fixture(params=["alpha", "bravo", "charlie"])
def asked(request: pytest.FixtureRequest, mesh: Mesh) -> NodeProcess:
    """Each of the three nodes in turn."""
    node: NodeProcess = getattr(mesh, request.param)
    return node


@pytest.fixture
def client(asked: NodeProcess) -> Iterator[openai.OpenAI]:
    with asked.openai() as made:
        yield made


def is_text(said: str | None) -> bool:
    """Whether a model of 135 million parameters said something; whether it is true is its own affair."""
    return sum(character.isalpha() for character in said or "") > 5


PATHS = {"alpha": "alpha", "bravo": "bravo > alpha", "charlie": "charlie > bravo > alpha"}
"""The only way there is, by the node that is asked."""


def test_chat(asked: NodeProcess, client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION, max_tokens=12, temperature=0)
    answer = raw.parse()
    assert is_text(answer.choices[0].message.content)
    assert answer.usage is not None and answer.usage.completion_tokens > 0
    assert raw.headers["x-meshnode-node"] == "alpha"
    assert raw.headers["x-meshnode-path"] == PATHS[asked.name]
    assert raw.headers["x-meshnode-attempts"] == "1"


def test_chat_streamed(asked: NodeProcess, client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=QUESTION, max_tokens=12, temperature=0,
        stream=True, stream_options={"include_usage": True},
    )  # fmt: skip
    assert raw.headers["x-meshnode-path"] == PATHS[asked.name]
    chunks = list(raw.parse())
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert is_text(text)
    assert len(chunks) > 3
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] in ("stop", "length")
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens > 0


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=8, temperature=0)
    assert answer.choices[0].text.strip()


def test_completions_streamed(client: openai.OpenAI) -> None:
    whole = client.completions.create(model=MODEL, prompt="One two three", max_tokens=8, temperature=0).choices[0].text
    stream = client.completions.create(model=MODEL, prompt="One two three", max_tokens=8, temperature=0, stream=True)
    assert "".join(choice.text for chunk in stream for choice in chunk.choices) == whole


def test_embeddings(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model=MODEL, input=["a cat", "a dog"])
    first, second = (entry.embedding for entry in answer.data)
    assert len(first) == len(second) > 100
    assert first != second


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    found = client.models.retrieve(MODEL)
    assert found.id == MODEL
    assert found.model_dump()["nodes"] == ["alpha"]


def test_a_model_may_be_asked_for_at_a_node(asked: NodeProcess, client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=f"{MODEL}@alpha", messages=QUESTION, max_tokens=2, temperature=0
    )
    assert raw.headers["x-meshnode-node"] == "alpha"
    with pytest.raises(openai.NotFoundError, match="bravo"):
        client.chat.completions.create(model=f"{MODEL}@bravo", messages=QUESTION, max_tokens=2)


def test_who_joins_a_running_mesh_lists_its_models_at_once(mesh: Mesh, tmp_path: Path) -> None:
    """Joined while running: the joiner knows the models, and the others know the joiner."""
    home = tmp_path / "delta"
    with NodeProcess(home, "--engines", "none") as delta:
        assert delta.models() == set()
        token = mesh.nodes.invite()
        command("join", token, "--home", str(home))
        began = time.perf_counter()
        until(lambda: delta.models() == {MODEL}, "delta lists the mesh's models")
        listed_s = time.perf_counter() - began
        for node in (mesh.alpha, mesh.bravo, mesh.charlie):
            until(lambda node=node: node.peers().get("delta") in ("direct", "relay"), f"{node.name} knows delta")
        known_s = time.perf_counter() - began
        say(f"after the join: models listed in {listed_s:.3f} s, known by all in {known_s:.3f} s")
        with delta.openai() as client:
            raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION, max_tokens=2)
            assert raw.headers["x-meshnode-path"] == "delta > bravo > alpha"
        delta.terminate()
        assert delta.ended() == 0
    until(lambda: "delta" not in mesh.alpha.peers(), "who left with a word is forgotten")


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_the_engine_ends_with_its_node(tmp_path: Path, model_folder: Path, how: str) -> None:
    home = tmp_path / "solo"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(ONE_THREAD)
    lend(model_folder, home)
    with NodeProcess(home, "--engines", "embedded") as node:
        node.event("settled")
        children = [child.pid for child in psutil.Process(node.pid).children(recursive=True)]
        assert children
        if how == "terminate":
            node.terminate()
            assert node.ended() == 0
            assert not [pid for pid in children if exists(pid)]
        else:
            node.kill()
            until(lambda: not [pid for pid in children if exists(pid)], "the engine's processes are gone")
