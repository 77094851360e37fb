"""Conversations stay where their prompt is cached, seen in the counters of llama-server on two nodes with the real one.

delta is asked and has no engine; alpha and bravo have the embedded one each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.real.kit import NodeProcess, Nodes, say, see_each_other, until
from tests.real.test_mesh import MODEL, ONE_THREAD, lend

pytestmark = pytest.mark.real

TOPICS = ("the tides", "old bridges", "honey bees")
LONG_TOKENS = 1000
"""More than a node writes while a turn is answered elsewhere, and less than its context."""

TEMPLATE_TOKENS = 8
"""What a chat template may say otherwise about a turn once it is no more the last one."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[dict[str, NodeProcess]]:
    with Nodes(tmp_path_factory.mktemp("conversation")) as family:
        made = {"delta": family.add("delta", mesh="127.0.0.1:0")}
        for name in ("alpha", "bravo"):
            made[name] = family.add(
                name, "--engines", "embedded", config=ONE_THREAD, before=lambda home: lend(model_folder, home)
            )
        for name in ("alpha", "bravo"):
            made[name].event("settled")
        see_each_other(tuple(made.values()), {MODEL})
        until(lambda: _served_by(made["delta"]) == {"alpha", "bravo"}, "delta knows both engines")
        yield made


def _served_by(node: NodeProcess) -> set[str]:
    return {place["name"] for model in node.status()["models"] for place in model["nodes"]}


@dataclass
class Turn:
    """Where one was answered, and the engine's counters: tokens of its prompt that were read, and that were cached."""

    node: str
    read: int
    cached: int


@dataclass
class Talk:
    """One conversation as a client has it."""

    client: openai.OpenAI
    name: str
    said: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        rules = " ".join(f"Rule {number}: speak of {self.name} as rule {number} asks." for number in range(12))
        self.said.append({"role": "system", "content": rules})

    def turn(self, text: str) -> Turn:
        """Say something and hear the answer."""
        self.said.append({"role": "user", "content": text})
        raw = self.client.chat.completions.with_raw_response.create(
            model=MODEL, messages=self.said, max_tokens=12, temperature=0.0,
            extra_headers={"x-session-id": self.name.replace(" ", "-")},
        )  # fmt: skip
        answer = raw.parse()
        assert answer.model_extra is not None
        timings = answer.model_extra["timings"]
        self.said.append({"role": "assistant", "content": answer.choices[0].message.content})
        return Turn(raw.headers["x-meshnode-node"], timings["prompt_n"], timings["cache_n"])


def _keep_busy(client: openai.OpenAI, node: str) -> openai.Stream[Any]:
    """A long answer of one node, under way."""
    stream = client.chat.completions.create(
        model=f"{MODEL}@{node}", messages=[{"role": "user", "content": "Count."}], max_tokens=LONG_TOKENS, stream=True,
        extra_body={"ignore_eos": True},
    )  # fmt: skip
    next(stream)
    return stream


def test_a_conversation_moves_when_waiting_costs_more_than_reading_its_prompt_anew(
    nodes: dict[str, NodeProcess],
) -> None:
    with nodes["delta"].openai() as client:
        talk = Talk(client, "wide rivers")
        first, second = talk.turn("What is worth knowing?"), talk.turn("What else?")
        home = first.node
        assert second.node == home and second.cached >= first.read + first.cached - TEMPLATE_TOKENS
        slots = sum(engine["slots"] for engine in nodes[home].status()["engines"])
        with ExitStack() as streams:
            for _ in range(slots):
                streams.enter_context(_keep_busy(client, home))
            moved = talk.turn("And now?")
            assert moved.node != home
            assert moved.read > moved.cached, "there it is read anew"
            then = talk.turn("And then?")
            assert then.node == moved.node
            assert then.cached >= moved.read + moved.cached - TEMPLATE_TOKENS
        # Where it is cached is where it stays, also once its first node is free again.
        after = talk.turn("And in the end?")
        assert after.node == moved.node and after.read < after.cached
        say("stayed, moved, stayed:", *((turn.node, turn.read, turn.cached) for turn in (second, moved, then, after)))


def test_each_turn_goes_where_the_last_was_and_only_what_is_new_is_read(nodes: dict[str, NodeProcess]) -> None:
    with nodes["delta"].openai() as client:
        talks = [Talk(client, topic) for topic in TOPICS]
        turns: list[list[Turn]] = [[] for _ in talks]
        for number in range(4):
            for talk, had in zip(talks, turns, strict=True):
                had.append(talk.turn(f"What is worth knowing, part {number}?"))
        for had in turns:
            assert len({turn.node for turn in had}) == 1
            for before, after in itertools.pairwise(had):
                prompt = before.read + before.cached
                new = after.read + after.cached - prompt
                assert after.cached >= prompt - TEMPLATE_TOKENS
                assert after.read <= new + TEMPLATE_TOKENS
                assert after.read < prompt / 2
        say("tokens read, cached:", *([(turn.read, turn.cached) for turn in had] for had in turns))
        # Its node goes: the conversation is read anew elsewhere, and stays there.
        home = turns[0][0].node
        nodes[home].kill()
        moved, then = talks[0].turn("And beyond that?"), talks[0].turn("And in the end?")
        assert moved.node == then.node != home
        assert moved.read > moved.cached
        assert then.cached >= moved.read + moved.cached - TEMPLATE_TOKENS
        say("moved, then:", (moved.read, moved.cached), (then.read, then.cached))
