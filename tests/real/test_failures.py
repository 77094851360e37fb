"""What a client sees when things break: nodes killed, engines killed, clients gone, relays gone, time run out.

charlie is asked; it reaches alpha and delta, which have an engine each, only by bravo. Both engines have the model
"shared"; each has one of its own. A field `fake` in a body tells the engine how to behave for that request.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
import urllib.error
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from meshnode.testing import Behaviour
from tests.real.kit import Caller, EngineThread, NodeProcess, Nodes, Pace, reached, say, see_each_other, until

pytestmark = pytest.mark.real

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
CHAT = "/v1/chat/completions"
EVERYTHING = {"shared", "alpha's", "delta's"}
SMALL_BODY_BYTES = 100_000
TOKENS = 400
"""Of a stream that runs until it is told to hurry."""


@dataclass
class Mesh:
    """The nodes, the engines of the two that have one, and how to make it whole again."""

    alpha: NodeProcess
    bravo: NodeProcess
    charlie: NodeProcess
    delta: NodeProcess
    engines: dict[str, EngineThread]
    family: Nodes

    @property
    def nodes(self) -> tuple[NodeProcess, ...]:
        return (self.alpha, self.bravo, self.charlie, self.delta)

    def mend(self) -> None:
        """Start what was ended, and wait until everybody sees everybody."""
        for engine in self.engines.values():
            engine.fake.behaviour = Behaviour()
        for node in self.nodes:
            if not node.runs:
                node.start()
        see_each_other(self.nodes, EVERYTHING)
        # What the test before cut may be on its way still, and would count as this one's.
        for node in self.nodes:
            until(lambda node=node: _idle(node), f"nothing is left at {node.name}")
        for name, engine in self.engines.items():
            until(lambda engine=engine: not engine.fake.running, f"nothing is left at the engine of {name}")

    def paced(self) -> Pace:
        """Streams run until it is told to hurry."""
        pace = Pace(TOKENS)
        for engine in self.engines.values():
            engine.fake.behaviour = pace
        return pace

    def asked_first(self, before: dict[str, int]) -> tuple[NodeProcess, NodeProcess]:
        """The node whose engine got a request since `before`, and the other."""
        name = until(
            lambda: next((name for name in self.engines if len(self.engines[name].fake.records) > before[name]), ""),
            "an engine got the request",
        )
        return (self.alpha, self.delta) if name == "alpha" else (self.delta, self.alpha)

    def counts(self) -> dict[str, int]:
        """Requests each engine has got."""
        return {name: len(engine.fake.records) for name, engine in self.engines.items()}


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with ExitStack() as stack:
        nodes = stack.enter_context(Nodes(tmp_path_factory.mktemp("failures")))
        engines = {
            name: stack.enter_context(EngineThread(models=("shared", f"{name}'s"), context=1000))
            for name in ("alpha", "delta")
        }
        yield Mesh(
            bravo=nodes.add("bravo", mesh="127.0.0.1:0"),
            alpha=nodes.add("alpha", "--engine-url", engines["alpha"].url),
            delta=nodes.add("delta", "--engine-url", engines["delta"].url),
            charlie=nodes.add("charlie", config=f"[front]\nbody_limit_bytes = {SMALL_BODY_BYTES}\n"),
            engines=engines,
            family=nodes,
        )


@pytest.fixture
def mesh(standing: Mesh) -> Mesh:
    """The mesh of this module, whole whatever the test before did to it."""
    standing.mend()
    return standing


@pytest.fixture
def client(mesh: Mesh) -> Iterator[openai.OpenAI]:
    with mesh.charlie.openai() as made:
        yield made


class Asking(threading.Thread):
    """A question in a thread of its own: what came of it is `answer` or `error`."""

    def __init__(self, client: openai.OpenAI, **settings: Any) -> None:
        super().__init__()
        self.client = client
        self.settings = {"model": "shared", "messages": HELLO} | settings
        self.text = ""
        self.headers: dict[str, str] = {}
        self.error: openai.OpenAIError | None = None
        self.begun = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            raw = self.client.chat.completions.with_raw_response.create(**self.settings)
            self.headers = dict(raw.headers)
            if not self.settings.get("stream"):
                self.text = raw.parse().choices[0].message.content or ""
                return
            for chunk in raw.parse():
                self.text += "".join(choice.delta.content or "" for choice in chunk.choices)
                if self.text:
                    self.begun.set()
        except openai.OpenAIError as error:
            self.error = error
        finally:
            self.begun.set()

    def ended(self) -> Asking:
        self.join(60)
        assert not self.is_alive(), "the client hangs"
        return self

    def first_words(self) -> Asking:
        assert self.begun.wait(60)
        assert self.error is None, self.error
        return self


class Kept(contextlib.closing[http.client.HTTPConnection]):
    """One connection that carries request after request."""

    def __init__(self, node: NodeProcess) -> None:
        host = node.ready["api"].removeprefix("http://")
        self.connection = http.client.HTTPConnection(host, timeout=60)
        super().__init__(self.connection)

    def __enter__(self) -> Kept:  # type: ignore[override]
        return self

    def status(self, method: str, path: str, body: Any = None) -> int:
        headers = {"content-type": "application/json"}
        self.connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status


def words(count: int) -> str:
    return "".join(f"t{index} " for index in range(count))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_killed_before_the_first_token_another_node_answers(mesh: Mesh, client: openai.OpenAI, stream: bool) -> None:
    for engine in mesh.engines.values():
        engine.fake.behaviour = Behaviour(hang="prefill")
    before = mesh.counts()
    asking = Asking(client, stream=stream)
    victim, other = mesh.asked_first(before)
    mesh.engines[other.name].fake.behaviour = Behaviour()
    began = time.perf_counter()
    victim.kill()
    asking.ended()
    say(f"answered elsewhere {time.perf_counter() - began:.3f} s after kill -9")
    assert asking.error is None
    assert asking.text == words(4)
    assert asking.headers["x-meshnode-node"] == other.name
    assert asking.headers["x-meshnode-path"] == f"charlie > bravo > {other.name}"
    assert asking.headers["x-meshnode-attempts"] == "2"


def test_killed_in_mid_stream_the_client_is_told(mesh: Mesh, client: openai.OpenAI) -> None:
    asking = Asking(client, model="alpha's", stream=True, extra_body={"fake": {"tokens": 400, "token_s": 0.05}})
    asking.first_words()
    mesh.alpha.kill()
    error = asking.ended().error
    assert isinstance(error, openai.APIError)
    assert error.code == "peer_failed"
    assert "alpha" in error.message
    assert words(400).startswith(asking.text)


def test_who_is_killed_is_seen_gone_and_comes_back_as_the_same(mesh: Mesh) -> None:
    identity = mesh.alpha.ready["node"]
    watching = (mesh.bravo, mesh.charlie, mesh.delta)
    began = time.perf_counter()
    mesh.alpha.kill()
    for node in watching:
        until(lambda node=node: node.peers().get("alpha", "gone") == "gone", f"{node.name} sees alpha gone")
    gone_s = time.perf_counter() - began
    for node in watching:
        assert "alpha's" not in node.models()
    began = time.perf_counter()
    mesh.alpha.start()
    for node in watching:
        until(lambda node=node: node.peers().get("alpha", "gone") != "gone", f"{node.name} sees alpha back")
        until(lambda node=node: "alpha's" in node.models(), f"{node.name} lists alpha's model")
        assert [peer["id"] for peer in node.status()["peers"] if peer["name"] == "alpha"] == [identity]
    back_s = time.perf_counter() - began
    say(f"gone everywhere {gone_s:.3f} s after kill -9, back everywhere {back_s:.3f} s after its start")


@pytest.mark.parametrize("end", ["die", "truncated", "unfinished"])
def test_an_engine_that_breaks_in_mid_stream_is_an_error(mesh: Mesh, client: openai.OpenAI, end: str) -> None:
    asking = Asking(client, stream=True, extra_body={"fake": {"tokens": 6, "at": 3, "end": end, "token_s": 0.01}})
    error = asking.ended().error
    assert isinstance(error, openai.APIError)
    assert error.code == "engine_failed"
    assert asking.text.startswith(words(3))
    assert "engine" in error.message


def test_an_engine_killed_in_mid_stream(mesh: Mesh, client: openai.OpenAI) -> None:
    asking = Asking(client, model="alpha's", stream=True, extra_body={"fake": {"tokens": 400, "token_s": 0.05}})
    asking.first_words()
    mesh.engines["alpha"].die()
    error = asking.ended().error
    mesh.engines["alpha"].revive()
    assert isinstance(error, openai.APIError)
    assert error.code == "engine_failed"


def test_an_engine_that_is_down(mesh: Mesh, client: openai.OpenAI) -> None:
    """Whoever else has the model answers, and where nobody has, one error says it, whether or not its node has noticed
    and told: the engine at alpha is down."""
    mesh.engines["alpha"].die()
    try:
        for _ in range(6):
            raw = client.chat.completions.with_raw_response.create(model="shared", messages=HELLO)
            assert raw.headers["x-meshnode-node"] == "delta"
        with pytest.raises(openai.InternalServerError) as raised:
            client.chat.completions.create(model="alpha's", messages=HELLO)
        assert (raised.value.status_code, raised.value.code) == (503, "engine_down")
        assert "alpha" in raised.value.message and "tart it there" in raised.value.message
    finally:
        mesh.engines["alpha"].revive()


def leave_before_the_first_token(mesh: Mesh) -> Caller:
    return Caller(
        mesh.charlie, CHAT, {"model": "alpha's", "messages": HELLO, "stream": True, "fake": {"hang": "prefill"}}
    )


def leave_in_mid_stream(mesh: Mesh) -> Caller:
    behaviour = {"tokens": 5000, "token_s": 0.02}
    caller = Caller(mesh.charlie, CHAT, {"model": "alpha's", "messages": HELLO, "stream": True, "fake": behaviour})
    caller.read_until(b"t2 ")
    return caller


def leave_a_silent_stream(mesh: Mesh) -> Caller:
    behaviour = {"tokens": 9, "hang": "stream", "at": 3}
    caller = Caller(mesh.charlie, CHAT, {"model": "alpha's", "messages": HELLO, "stream": True, "fake": behaviour})
    caller.read_until(b"t2 ")
    return caller


def leave_a_whole_answer(mesh: Mesh) -> Caller:
    return Caller(mesh.charlie, CHAT, {"model": "alpha's", "messages": HELLO, "fake": {"hang": "prefill"}})


@pytest.mark.parametrize(
    "begin", [leave_before_the_first_token, leave_in_mid_stream, leave_a_silent_stream, leave_a_whole_answer]
)
def test_a_client_that_leaves_frees_the_slot_two_hops_away(mesh: Mesh, begin: Any) -> None:
    engine = mesh.engines["alpha"]
    cuts, came = engine.cuts(), mesh.counts()["alpha"]
    with begin(mesh) as caller:
        engine.started(came + 1)
        assert [line["busy"] for line in mesh.alpha.status()["engines"]] == [1]
        began = time.perf_counter()
        caller.leave()
        engine.cut(cuts + 1)
        say(f"{begin.__name__}: the engine was cut after {(time.perf_counter() - began) * 1000:.1f} ms")
    until(lambda: [line["busy"] for line in mesh.alpha.status()["engines"]] == [0], "the slot is free")
    for node in mesh.nodes:
        until(lambda node=node: _idle(node), f"nothing is left of it at {node.name}")


def links(node: NodeProcess, peer: str) -> set[str]:
    """Whom `peer` is linked to, as far as `node` has heard."""
    return next(set(entry["links"]) for entry in node.status()["peers"] if entry["name"] == peer)


def _idle(node: NodeProcess) -> bool:
    requests = node.status()["requests"]
    return not (requests["running"] or requests["for_peers"] or requests["queued"])


def test_a_client_that_leaves_the_queue_never_reaches_the_engine(mesh: Mesh) -> None:
    engine = mesh.engines["alpha"]
    came = mesh.counts()["alpha"]
    body = {"model": "alpha's", "messages": HELLO, "fake": {"hang": "prefill"}}
    with ExitStack() as stack:
        for _ in range(engine.fake.slots):
            stack.enter_context(Caller(mesh.charlie, CHAT, body))
        engine.started(came + engine.fake.slots)
        with Caller(mesh.charlie, CHAT, body):
            until(lambda: mesh.alpha.status()["requests"]["queued"] == 1, "one waits")
            # Through the relay, and the tunnel in it.
            until(lambda: mesh.charlie.status()["requests"]["queued_elsewhere"] == 1, "its own node knows it")
            assert "queued_elsewhere" in mesh.bravo.status()["requests"]
        until(lambda: mesh.alpha.status()["requests"]["queued"] == 0, "nobody waits")
    until(lambda: _idle(mesh.alpha), "all have left")
    assert mesh.counts()["alpha"] == came + engine.fake.slots


def test_a_relay_killed_in_mid_stream(mesh: Mesh, client: openai.OpenAI) -> None:
    engine = mesh.engines["alpha"]
    cuts = engine.cuts()
    asking = Asking(client, model="alpha's", stream=True, extra_body={"fake": {"tokens": 400, "token_s": 0.05}})
    asking.first_words()
    mesh.bravo.kill()
    error = asking.ended().error
    assert isinstance(error, openai.APIError)
    assert error.code == "peer_failed"
    engine.cut(cuts + 1)


def test_a_relay_killed_before_the_first_token_and_nobody_else_relays(mesh: Mesh, client: openai.OpenAI) -> None:
    came = mesh.counts()["alpha"]
    asking = Asking(client, model="alpha's", extra_body={"fake": {"hang": "prefill"}})
    mesh.engines["alpha"].started(came + 1)
    mesh.bravo.kill()
    error = asking.ended().error
    assert isinstance(error, openai.InternalServerError)
    assert error.code in ("peer_failed", "no_peer_reachable")
    until(lambda: mesh.charlie.peers()["alpha"] == "gone", "charlie knows that alpha is cut off")
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="alpha's", messages=HELLO)
    assert raised.value.status_code == 503
    assert raised.value.code == "no_peer_reachable"
    assert "alpha" in raised.value.message
    assert int(raised.value.response.headers["retry-after-ms"]) > 0


def test_a_relay_killed_before_the_first_token_and_another_relays(mesh: Mesh, client: openai.OpenAI) -> None:
    with mesh.family.add("echo", mesh="127.0.0.1:0") as echo:
        see_each_other((*mesh.nodes, echo), EVERYTHING)
        until(lambda: {"bravo", "echo"} <= links(mesh.charlie, "alpha"), "charlie knows of both ways to alpha")
        until(lambda: all("alpha" in links(mesh.charlie, name) for name in ("bravo", "echo")), "both ends say so")
        until(lambda: mesh.charlie.peers()["echo"] == "direct", "charlie is linked to echo")
        engine = mesh.engines["alpha"]
        came = mesh.counts()["alpha"]
        engine.fake.behaviour = Behaviour(hang="prefill")
        # Open, so that the relay counts the job as one of its own; a sealed one only passes bytes.
        asking = Asking(client, model="alpha's", extra_headers={"x-meshnode-privacy": "open"})
        engine.started(came + 1)
        engine.fake.behaviour = Behaviour()
        carrier = until(lambda: next((node for node in (mesh.bravo, echo) if not _idle(node)), None), "one relays")
        other = echo if carrier is mesh.bravo else mesh.bravo
        began = time.perf_counter()
        carrier.kill()
        asking.ended()
        say(f"answered over another relay {time.perf_counter() - began:.3f} s after kill -9")
        assert asking.error is None
        assert asking.text == words(4)
        assert asking.headers["x-meshnode-path"] == f"charlie > {other.name} > alpha"
        assert asking.headers["x-meshnode-attempts"] == "2"
        mesh.mend()
        if echo.runs:
            echo.terminate()
            assert echo.ended() == 0
    until(lambda: "echo" not in reached(mesh.charlie), "echo is gone")


DEADLINES_S = [0.4 * 2**number for number in range(8)]
"""Each holds, wherever the request is by then; the first within which it gets to the engine is what a test is about."""


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_deadline_of_the_client_holds(mesh: Mesh, client: openai.OpenAI, stream: bool) -> None:
    cuts, came = sum(engine.cuts() for engine in mesh.engines.values()), sum(mesh.counts().values())
    for timeout_s in DEADLINES_S:
        with pytest.raises(openai.InternalServerError) as raised:
            client.chat.completions.create(
                model="shared", messages=HELLO, stream=stream,
                extra_headers={"x-meshnode-timeout": str(timeout_s)}, extra_body={"fake": {"hang": "prefill"}},
            )  # fmt: skip
        assert raised.value.status_code == 504
        assert raised.value.code == "deadline_exceeded"
        if (asked := sum(mesh.counts().values()) - came) > 0:
            break
    assert asked > 0, "it never got to an engine"
    until(lambda: sum(engine.cuts() for engine in mesh.engines.values()) == cuts + asked, "the engine is free again")


def test_the_deadline_of_the_client_holds_in_mid_stream(mesh: Mesh, client: openai.OpenAI) -> None:
    for timeout_s in DEADLINES_S:
        asking = Asking(
            client, stream=True, extra_headers={"x-meshnode-timeout": str(timeout_s)},
            extra_body={"fake": {"tokens": 9, "hang": "stream", "at": 2}},
        )  # fmt: skip
        error = asking.ended().error
        assert isinstance(error, openai.APIError)
        assert error.code == "deadline_exceeded"
        assert words(2).startswith(asking.text)
        if asking.text == words(2):
            return
    pytest.fail("it never began")


def test_longer_than_the_context(mesh: Mesh, client: openai.OpenAI) -> None:
    for text in ("word " * 5000, "w " * 1500):
        with pytest.raises(openai.BadRequestError) as raised:
            client.chat.completions.create(model="shared", messages=[{"role": "user", "content": text}])
        assert raised.value.code == "context_length_exceeded"
        assert "1000" in raised.value.message


def test_a_model_that_nobody_has(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Did you mean 'shared'") as raised:
        client.chat.completions.create(model="shard", messages=HELLO)
    assert raised.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("shard")


def test_what_makes_no_sense(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.post("/chat/completions", body={"model": "shared"}, cast_to=object)
    assert raised.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as raised:
        client.post("/chat/completions", body={"messages": HELLO}, cast_to=object)
    assert raised.value.param == "model"
    with pytest.raises(openai.BadRequestError, match="JSON"):
        client.post("/chat/completions", content=b'{"model": "shared", ', cast_to=object)
    with pytest.raises(openai.APIStatusError) as large:
        client.chat.completions.create(model="shared", messages=[{"role": "user", "content": "x" * SMALL_BODY_BYTES}])
    assert large.value.status_code == 413
    assert large.value.body["code"] == "request_too_large"


def test_full_is_429_with_when_to_come_back(mesh: Mesh, client: openai.OpenAI) -> None:
    engine = mesh.engines["alpha"]
    came = mesh.counts()["alpha"]
    body = {"model": "alpha's", "messages": HELLO, "fake": {"hang": "prefill"}}
    places = engine.fake.slots + max(8, 2 * engine.fake.slots)
    with ExitStack() as stack:
        for _ in range(places):
            stack.enter_context(Caller(mesh.charlie, CHAT, body))
        engine.started(came + engine.fake.slots)
        until(lambda: mesh.alpha.status()["requests"]["queued"] == places - engine.fake.slots, "the queue is full")
        with pytest.raises(openai.RateLimitError) as raised:
            client.chat.completions.create(model="alpha's", messages=HELLO)
        assert raised.value.code == "overloaded"
        assert "retry-after" in raised.value.response.headers
    until(lambda: _idle(mesh.alpha), "all have left")


def test_after_a_signal_an_answer_for_a_peer_is_finished(mesh: Mesh, client: openai.OpenAI) -> None:
    pace = mesh.paced()
    asking = Asking(client, model="alpha's", stream=True).first_words()
    mesh.alpha.terminate()
    mesh.alpha.event("stopping")
    for node in (mesh.bravo, mesh.charlie):
        until(lambda node=node: "alpha's" not in node.models(), f"{node.name} no longer offers what alpha has")
    other = client.chat.completions.with_raw_response.create(model="shared", messages=HELLO, max_tokens=1)
    assert other.headers["x-meshnode-node"] == "delta"
    with pytest.raises(urllib.error.HTTPError, match="503"):
        mesh.alpha.get("/readyz")
    assert mesh.alpha.status()["node"]["draining"]
    assert asking.is_alive()
    pace.hurry()
    asking.ended()
    assert asking.error is None
    assert asking.text == words(TOKENS)
    began = time.perf_counter()
    assert mesh.alpha.ended() == 0
    say(f"ended {time.perf_counter() - began:.3f} s after its last answer")
    until(lambda: "alpha" not in mesh.charlie.peers(), "who left with a word is forgotten")


def test_after_a_signal_a_relay_finishes_what_passes_through(mesh: Mesh, client: openai.OpenAI) -> None:
    pace = mesh.paced()
    asking = Asking(client, stream=True).first_words()
    mesh.bravo.terminate()
    mesh.bravo.event("stopping")
    pace.hurry()
    asking.ended()
    assert asking.error is None
    assert asking.text == words(TOKENS)
    assert mesh.bravo.ended() == 0


def test_after_a_signal_whoever_asks_on_a_kept_connection_is_told_and_a_stream_from_a_peer_is_finished(
    mesh: Mesh, client: openai.OpenAI
) -> None:
    pace = mesh.paced()
    asking = Asking(client, stream=True).first_words()
    with Kept(mesh.charlie) as ready, Kept(mesh.charlie) as late:
        assert ready.status("GET", "/readyz") == late.status("GET", "/readyz") == 200
        mesh.charlie.terminate()
        mesh.charlie.event("stopping")
        assert ready.status("GET", "/readyz") == 503
        assert late.status("POST", CHAT, {"model": "shared", "messages": HELLO}) == 503
    pace.hurry()
    asking.ended()
    assert asking.error is None
    assert asking.text == words(TOKENS)
    assert mesh.charlie.ended() == 0


def test_the_second_signal_ends_now(mesh: Mesh, client: openai.OpenAI) -> None:
    asking = Asking(client, model="alpha's", stream=True, extra_body={"fake": {"tokens": 9, "hang": "stream", "at": 2}})
    asking.first_words()
    mesh.alpha.terminate()
    mesh.alpha.event("stopping")
    began = time.perf_counter()
    mesh.alpha.terminate()
    assert mesh.alpha.ended() == 1
    say(f"ended {time.perf_counter() - began:.3f} s after the second signal")
    assert isinstance(asking.ended().error, openai.APIError)
