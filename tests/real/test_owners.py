"""Five nodes as processes: whose a request is at a machine that it reaches over a relay which reads it, and may lie.

All there is between them is the hub, which is nobody's and crooked (crooked.py) where a request asks it to be. desk and
vault are ann's, and so is laptop; stranger is nobody's, with an API key that says ann. In one process, with each change
that a relay could make: tests/dispatch/test_claims.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from tests.real.crooked import AGAIN, MARK, TRICKS
from tests.real.kit import Caller, EngineThread, NodeProcess, Nodes, command, see_each_other, until

pytestmark = pytest.mark.real

CHAT = "/v1/chat/completions"
CROOKED = (sys.executable, "-m", "tests.real.crooked")
OPEN = '[mesh]\nrelay_class = "open"\n'
OWN = "[sharing]\nforeign = false\n"


@dataclass
class Scene:
    """desk takes everybody's requests, one at a time, and vault ann's alone."""

    nodes: dict[str, NodeProcess]
    desk: EngineThread
    vault: EngineThread
    key: str

    def ask(self, node: str, model: str, user: str, **behaviour: Any) -> Caller:
        """A stream by a client of a node."""
        body = {
            "model": model, "stream": True, "user": user, "fake": behaviour,
            "messages": [{"role": "user", "content": "hello"}],
        }  # fmt: skip
        headers = {"authorization": f"Bearer {self.key}"} if node == "stranger" else {}
        return Caller(self.nodes[node], CHAT, body, headers)

    def waiting(self) -> list[str]:
        """Whose requests wait at desk, next first."""
        return [one["owner"] for one in self.nodes["desk"].status()["waiting"]]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("owners")
    with ExitStack() as stack:
        desk = stack.enter_context(EngineThread(models=("at-desk",), slots=1))
        vault = stack.enter_context(EngineThread(models=("in-vault",)))
        mesh = stack.enter_context(Nodes(folder))
        found = {
            "hub": mesh.add("hub", mesh="127.0.0.1:0", program=CROOKED),
            "desk": mesh.add("desk", "--engine-url", desk.url, owner="ann"),
            "vault": mesh.add("vault", "--engine-url", vault.url, config=OWN, owner="ann"),
            "laptop": mesh.add("laptop", config=f"{OPEN}[front]\nkeepalive_s = 0.3\n", owner="ann"),
            "stranger": mesh.add("stranger", config=OPEN),
        }
        see_each_other(list(found.values()), {"at-desk", "in-vault"})
        made = command("keys", "add", "--owner", "ann", "--json", "--home", str(found["stranger"].home))
        yield Scene(found, desk, vault, json.loads(made)["key"])


def test_the_owner_goes_first_over_a_relay_and_whoever_only_says_so_does_not(scene: Scene) -> None:
    with scene.ask("stranger", "at-desk", "first", hang="stream") as served:
        assert b"x-meshnode-privacy: open" in served.read_until(b"t0 ")
        with scene.ask("stranger", "at-desk", "second") as second:
            until(lambda: scene.waiting() == ["hub"], "the stranger's second request waits")
            with scene.ask("laptop", "at-desk", "owner's") as owners:
                until(lambda: scene.waiting() == ["ann", "hub"], "the owner's request goes before it")
                owners.read_until(b": queued 1\n\n")
                served.leave()
                owners.read_until(b"[DONE]")
                second.read_until(b"[DONE]")
    assert [record.json["user"] for record in scene.desk.started(3)] == ["first", "owner's", "second"]


def asked(scene: Scene, user: str, *, stream: bool = False, **behaviour: Any) -> dict[str, str]:
    """How laptop's request at vault was answered: the headers that say which way."""
    with scene.nodes["laptop"].openai() as client:
        raw = client.chat.completions.with_raw_response.create(
            model="in-vault", messages=[{"role": "user", "content": "hello"}], user=user, stream=stream,
            extra_body={"fake": behaviour},
        )  # fmt: skip
    return {name: raw.headers[f"x-meshnode-{name}"] for name in ("path", "privacy")}


def served(scene: Scene, user: str) -> list[bool]:
    """Of each request of that user that came to vault's engine, whether it was cut."""
    return [record.cut for record in scene.vault.fake.records if record.json["user"] == user]


def test_a_machine_that_is_its_owners_alone_serves_the_owner_over_a_relay_that_passes_on_what_came(
    scene: Scene,
) -> None:
    assert asked(scene, "honest") == {"path": "laptop > hub > vault", "privacy": "open"}
    assert served(scene, "honest") == [False]


@pytest.mark.parametrize("trick", TRICKS)
def test_a_relay_that_changes_an_owners_request_gets_nothing_for_it(scene: Scene, trick: str) -> None:
    with pytest.raises(openai.PermissionDeniedError) as refused:
        asked(scene, MARK + trick)
    assert refused.value.code == "not_shared"
    assert served(scene, MARK + trick) == []


def test_a_relay_that_shows_an_owners_request_again_gets_nothing_for_it(scene: Scene) -> None:
    """One that it cut, so that the job itself might come again, and one that was answered."""
    with pytest.raises(openai.PermissionDeniedError) as refused:
        asked(scene, MARK + AGAIN, stream=True, hang="stream")
    assert refused.value.code == "not_shared"
    # All that came of it is cut.
    tried = len(served(scene, MARK + AGAIN))
    assert tried and len(scene.vault.cut(tried)) == tried
    with pytest.raises(openai.BadRequestError, match="has been here before, and was answered"):
        asked(scene, MARK + AGAIN)
    assert served(scene, MARK + AGAIN) == [True] * tried + [False]
    assert asked(scene, "after it") == {"path": "laptop > hub > vault", "privacy": "open"}
