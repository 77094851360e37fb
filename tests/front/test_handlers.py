"""A request becomes a job, an answer becomes a reply; in virtual time, without HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshnode.access import OPEN
from meshnode.config.front import FrontSection
from meshnode.dialects import CHAT, KEEPALIVE, event_error
from meshnode.dialects.speech import Speech
from meshnode.errors import (
    BadRequest,
    DeadlineExceeded,
    EngineFailed,
    ModelNotFound,
    NoPeerReachable,
    Overloaded,
    PeerFailed,
    RequestError,
)
from meshnode.front.handlers import Incoming, infer, make_job
from meshnode.front.reply import WHOLE_BYTES, pass_headers
from meshnode.model.answer import WholeAnswer
from meshnode.model.job import Label, Priority, Privacy
from tests.front.fakes import DONE, EVENTS, JSON, SECTION, WHOLE, Mesh, Recorder, Script, chat_body, delta

TOO_LONG = b'{"error":{"message":"long","code":"context_length_exceeded"}}'


async def asked(mesh: Mesh, stream: bool = True, **headers: str) -> Recorder:
    reply = Recorder()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    await infer(Incoming("POST", CHAT, given, chat_body(stream), OPEN), mesh.doors(), SECTION, reply)
    assert reply.ended
    return reply


def playing(*steps: Any, **kwargs: Any) -> tuple[Mesh, Script]:
    answer = Script(*steps, **kwargs)
    return Mesh(lambda job: answer), answer


def after(seconds: float, outcome: Any) -> Mesh:
    async def wait(job: Any) -> Any:
        await trio.sleep(seconds)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return Mesh(wait)


def told(body: bytes) -> dict[str, Any]:
    """The error of a stream that ended with one."""
    event, done, rest = body.split(b"\n\n")[-3:]
    assert (done, rest) == (b"data: [DONE]", b"")
    return dict(json.loads(event.removeprefix(b"data: "))["error"])


class TestJob:
    async def test_carries_what_the_headers_say(self, autojump_clock: MockClock) -> None:
        mesh = Mesh()
        await asked(
            mesh,
            stream=False,
            x_request_id="mine-1",
            x_meshnode_timeout="7.5",
            x_meshnode_priority="Low",
            x_meshnode_label="sensitive",
            x_meshnode_privacy="Open",
            traceparent="00-aa-bb-01",
        )
        job = mesh.jobs[0]
        assert (job.id, job.route, job.body) == ("mine-1", CHAT, chat_body(False))
        assert (job.deadline, job.priority, job.label) == (7.5, Priority.LOW, Label.SENSITIVE)
        assert job.privacy is Privacy.OPEN
        assert (job.traceparent, job.origin) == ("00-aa-bb-01", mesh.doors().me)

    @pytest.mark.parametrize("trace", ["", "a" * 63 + " b", "00-é-bb-01", "a" * 65])
    async def test_carries_no_trace_that_would_not_travel(self, trace: str, autojump_clock: MockClock) -> None:
        headers = {"traceparent": trace}
        job = make_job(Incoming("POST", CHAT, headers, chat_body(False), OPEN), "r", Mesh().doors(), FrontSection())
        assert job.traceparent == ""

    @pytest.mark.parametrize(("stream", "deadline"), [(False, 600.0), (True, 3600.0)])
    async def test_has_the_usual_deadline(self, stream: bool, deadline: float, autojump_clock: MockClock) -> None:
        job = make_job(Incoming("POST", CHAT, {}, chat_body(stream), OPEN), "r", Mesh().doors(), FrontSection())
        assert job.deadline == deadline

    @pytest.mark.parametrize(
        "headers",
        [
            {"x_meshnode_timeout": "soon"},
            {"x_meshnode_timeout": "-1"},
            {"x_meshnode_timeout": "nan"},
            {"x_meshnode_timeout": "inf"},
            {"x_meshnode_priority": "vip"},
            {"x_meshnode_label": "secret"},
            {"x_meshnode_privacy": "direct"},
        ],
    )
    async def test_a_word_that_is_none_is_refused(self, headers: dict[str, str]) -> None:
        mesh = Mesh()
        reply = await asked(mesh, **headers)
        assert (reply.status, mesh.jobs) == (400, [])
        assert json.loads(reply.body)["error"]["param"] == next(iter(headers)).replace("_", "-")

    @pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\r\nb"])
    async def test_a_strange_request_id_is_replaced(self, given: str) -> None:
        mesh = Mesh()
        reply = await asked(mesh, x_request_id=given)
        assert reply.headers["x-request-id"] == mesh.jobs[0].id
        assert mesh.jobs[0].id.startswith("req_")


class TestWhole:
    async def test_is_copied_with_its_length_and_headers(self) -> None:
        headers = {**JSON, "x-meshnode-node": "desk", "Access-Control-Allow-Origin": "*", "server": "x", "bad": "a\nb"}
        mesh, answer = playing(WHOLE[:9], WHOLE[9:], headers=headers)
        reply = await asked(mesh, stream=False)
        assert (reply.status, reply.body, len(reply.writes)) == (200, WHOLE, 1)
        assert reply.headers["content-length"] == str(len(WHOLE))
        assert reply.headers["x-meshnode-node"] == "desk"
        assert not {"access-control-allow-origin", "server", "bad"} & set(reply.headers)
        assert answer.closed

    async def test_an_engines_refusal_passes_as_it_is(self) -> None:
        mesh, _ = playing(b'{"error":{}}', status=400, headers=JSON)
        reply = await asked(mesh, stream=False)
        assert (reply.status, reply.body) == (400, b'{"error":{}}')

    @pytest.mark.parametrize("error", [ModelNotFound("no"), Overloaded("full", retry_after_s=3), PeerFailed("cut")])
    async def test_a_failure_before_the_body_is_a_status(self, error: RequestError) -> None:
        for mesh in (after(0, error), playing(error)[0], playing(b"{", error, headers=JSON)[0]):
            reply = await asked(mesh, stream=False)
            assert reply.status == error.status
            assert json.loads(reply.body)["error"]["code"] == error.code

    async def test_a_large_answer_that_breaks_is_left_without_an_end(self) -> None:
        mesh, answer = playing(b"x" * WHOLE_BYTES, b"y", PeerFailed("cut"), headers=JSON)
        reply = Recorder()
        await infer(Incoming("POST", CHAT, {}, chat_body(False), OPEN), mesh.doors(), SECTION, reply)
        assert (reply.status, reply.ended, answer.closed) == (200, False, True)
        assert "content-length" not in reply.headers

    async def test_a_large_answer_is_copied_as_it_comes(self) -> None:
        mesh, _ = playing(b"x" * WHOLE_BYTES, b"y", headers=JSON)
        assert (await asked(mesh, stream=False)).body == b"x" * WHOLE_BYTES + b"y"

    async def test_has_no_keepalive(self, autojump_clock: MockClock) -> None:
        reply = await asked(after(300, WholeAnswer(200, JSON, WHOLE)), stream=False)
        assert [when for when, _ in reply.writes] == [300]

    async def test_ends_by_its_deadline_whatever_dispatch_does(self, autojump_clock: MockClock) -> None:
        for mesh in (after(9_000, None), playing(b"{", 9_000.0, headers=JSON)[0]):
            begun_at = trio.current_time()
            reply = await asked(mesh, stream=False, x_meshnode_timeout="20")
            assert (reply.status, trio.current_time() - begun_at) == (504, 22)


class TestStream:
    async def test_bytes_are_copied_verbatim(self) -> None:
        chunks = [delta("a"), delta("b")[:7], delta("b")[7:] + delta("c"), DONE]
        mesh, answer = playing(*chunks)
        reply = await asked(mesh)
        assert (reply.status, reply.body, answer.closed) == (200, b"".join(chunks), True)
        assert reply.headers["content-type"] == "text/event-stream"
        assert reply.headers["cache-control"] == "no-cache"
        assert reply.headers["x-accel-buffering"] == "no"
        assert reply.headers["x-meshnode-node"] == "desk"

    async def test_a_failure_before_the_first_byte_is_a_status(self) -> None:
        for error in (NoPeerReachable("nobody"), BadRequest("no")):
            for mesh in (after(1, error), playing(error)[0]):
                reply = await asked(mesh)
                assert (reply.status, reply.headers["content-type"]) == (error.status, "application/json")

    async def test_an_error_as_first_event_is_a_status(self) -> None:
        mesh, answer = playing(event_error(Overloaded("full")))
        assert (await asked(mesh)).status == 429
        assert answer.closed

    async def test_who_waits_for_a_slot_is_told_its_place_as_it_is_then(self, autojump_clock: MockClock) -> None:
        mesh = after(35, playing(delta("a"), DONE)[1])
        mesh.places = [12, 2]
        reply = await asked(mesh)
        assert [said for _, said in reply.writes][:3] == [b": queued 12\n\n", b": queued 2\n\n", KEEPALIVE]
        assert reply.body.endswith(delta("a") + DONE)

    async def test_an_engine_that_does_not_stream_is_passed_on(self) -> None:
        mesh, _ = playing(WHOLE, headers=JSON)
        reply = await asked(mesh)
        assert (reply.status, reply.body, reply.headers["content-type"]) == (200, WHOLE, "application/json")

    async def test_a_break_is_told_within_the_stream(self) -> None:
        mesh, answer = playing(delta("a"), delta("b")[:20], PeerFailed("the peer is gone"))
        reply = await asked(mesh)
        assert reply.status == 200
        assert reply.body.startswith(delta("a") + b'data: {"error"'), "half an event is not passed on"
        assert told(reply.body)["code"] == "peer_failed"
        assert answer.closed

    async def test_what_breaks_behind_its_end_is_not_told(self, autojump_clock: MockClock) -> None:
        """A node that stood still, or a link that was lost, before the answer's trailers came: one end is enough."""
        for tail in (PeerFailed("cut"), 9_000.0):
            reply = await asked(playing(delta("a"), DONE, tail)[0], x_meshnode_timeout="20")
            assert reply.body.replace(KEEPALIVE, b"") == delta("a") + DONE
            assert reply.ended

    async def test_an_empty_stream_has_an_end(self) -> None:
        reply = await asked(playing()[0])
        assert (reply.status, reply.body) == (200, b"")


class TestKeepalive:
    async def test_speaks_while_nobody_answers(self, autojump_clock: MockClock) -> None:
        reply = await asked(after(35, Script(delta("a"), DONE)))
        assert reply.writes == [(10, KEEPALIVE), (20, KEEPALIVE), (30, KEEPALIVE), (35, delta("a")), (35, DONE)]
        assert reply.headers["content-type"] == "text/event-stream"

    async def test_a_quick_answer_hears_none(self, autojump_clock: MockClock) -> None:
        reply = await asked(after(9, Script(delta("a"), 9.0, DONE)))
        assert reply.body == delta("a") + DONE

    async def test_speaks_in_the_middle_of_a_stream(self, autojump_clock: MockClock) -> None:
        reply = await asked(playing(delta("a"), 25.0, delta("b"), DONE)[0])
        assert [when for when, data in reply.writes if data == KEEPALIVE] == [10, 20]

    async def test_never_stands_within_an_event(self, autojump_clock: MockClock) -> None:
        half = delta("a")[:30]
        reply = await asked(playing(delta("a"), half, 25.0, delta("a")[30:], DONE)[0])
        assert reply.body == delta("a") + KEEPALIVE * 2 + delta("a") + DONE

    @pytest.mark.parametrize(
        ("mesh", "code"),
        [
            (after(15, NoPeerReachable("gone")), "no_peer_reachable"),
            (after(15, Script(TOO_LONG, status=400, headers=JSON)), "context_length_exceeded"),
            (after(15, Script(WHOLE, headers=JSON)), "engine_failed"),
            (after(15, Script(event_error(EngineFailed("died")))), "engine_failed"),
        ],
    )  # fmt: skip
    async def test_after_it_errors_come_in_the_stream(self, mesh: Mesh, code: str, autojump_clock: MockClock) -> None:
        reply = await asked(mesh)
        assert reply.status == 200
        assert reply.body.startswith(KEEPALIVE)
        assert told(reply.body)["code"] == code

    async def test_a_stream_ends_by_its_deadline_whatever_dispatch_does(self, autojump_clock: MockClock) -> None:
        for mesh in (after(9_000, None), playing(delta("a"), 9_000.0)[0]):
            begun_at = trio.current_time()
            reply = await asked(mesh, x_meshnode_timeout="20")
            assert told(reply.body)["code"] == DeadlineExceeded.code
            assert trio.current_time() - begun_at == 22

    async def test_an_end_in_the_very_moment_of_a_keepalive_stays_the_end(self, autojump_clock: MockClock) -> None:
        """Recorder refuses anything after an end, and a second head; the scheduler's order varies."""
        for turn in range(20):
            later = [0.0] * (turn % 4)  # turns of the scheduler after the timer's
            assert (await asked(playing(delta("a"), 10.0, *later, DONE)[0])).status == 200
            assert (await asked(playing(delta("a"), 10.0, *later, PeerFailed("cut"))[0])).status == 200
            assert (await asked(playing(10.0, *later)[0])).status == 200
            assert (await asked(after(10, Overloaded("full")))).status in (200, 429)
            assert (await asked(after(10, WholeAnswer(200, JSON, WHOLE)))).status == 200

    async def test_a_dialect_that_has_no_way_to_wait_is_not_answered_early(
        self, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("meshnode.front.streaming.speech_of", lambda route: Speech(None, event_error))
        reply = await asked(after(30, NoPeerReachable("gone")))
        assert reply.status == NoPeerReachable.status
        assert (await asked(playing(30.0, delta("a"), 30.0, DONE)[0])).body == delta("a") + DONE

    async def test_waits_for_a_slow_client_and_never_interleaves(self, autojump_clock: MockClock) -> None:
        class Slow(Recorder):
            async def send(self, data: bytes, more: bool = True) -> None:
                assert not self.busy
                self.busy = True
                await trio.sleep(12)
                self.busy = False
                await super().send(data, more)

            busy = False

        reply = Slow()
        mesh, _ = playing(15.0, delta("a"), 15.0, delta("b"), DONE)
        await infer(Incoming("POST", CHAT, {}, chat_body(True), OPEN), mesh.doors(), SECTION, reply)
        assert reply.ended
        assert reply.body.replace(KEEPALIVE, b"") == delta("a") + delta("b") + DONE


class TestCancelling:
    @pytest.mark.parametrize("stream", [True, False])
    async def test_closes_the_answer(self, stream: bool, autojump_clock: MockClock) -> None:
        mesh, answer = playing(delta("a"), 1_000.0, headers=EVENTS if stream else JSON)
        with trio.move_on_after(5):
            await asked(mesh, stream)
        assert answer.closed

    async def test_is_not_held_by_an_answer_that_will_not_close(self, autojump_clock: MockClock) -> None:
        mesh, answer = playing(delta("a"), 1_000.0)
        answer.aclose = trio.sleep_forever  # type: ignore[method-assign]
        with trio.move_on_after(5):
            await asked(mesh)
        assert trio.current_time() == 7


def test_internal_headers_do_not_reach_clients() -> None:
    assert pass_headers({"meshnode-error": "x", "Transfer-Encoding": "chunked", "a": "b"}, "r") == {
        "x-request-id": "r",
        "a": "b",
    }
