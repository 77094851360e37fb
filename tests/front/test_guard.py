"""One hostile client harms nobody but itself, and no client outlives its time.

Real sockets where the kernel matters. The clock is virtual, as both ends are in one process, except where the kernel's
own timers count (large bodies).
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock, lockstep_stream_pair

from meshnode.front.exchange import ASGIApp
from meshnode.model.answer import WholeAnswer
from tests.front.fakes import DONE, JSON, WHOLE, Mesh, Script, chat_body, delta, joined, section, served

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"

UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" + b"\x81\xffgarbage" * 9
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
PRIORITY_FRAMES = b"".join(
    b"\x00\x00\x05\x02\x00" + stream.to_bytes(4, "big") + b"\x00\x00\x00\x00\x10" for stream in range(1, 2401, 2)
)


class TestMeasuredAttacks:
    @pytest.mark.parametrize("attack", [UPGRADE, PREFACE + PRIORITY_FRAMES], ids=["websocket", "http2"])
    async def test_others_keep_their_answers_and_shutdown_is_prompt(
        self, autojump_clock: MockClock, attack: bytes
    ) -> None:
        mesh = Mesh()
        async with served(mesh.app(), grace_s=10) as door:
            bystander = await door.client()
            assert (await bystander.chat()).status == 200
            for _ in range(3):
                attacker = await door.raw(attack)
                assert (await attacker.read()).status in (501, 505)
                assert (await bystander.chat()).status == 200
                assert (await (await door.client()).chat()).status == 200
            stopped_at = trio.current_time()
            door.stop.set()
            await door.stopped.wait()
            assert trio.current_time() - stopped_at <= 10

    async def test_a_client_that_stops_reading_does_not_hold_shutdown(self, autojump_clock: MockClock) -> None:
        mesh = Mesh(lambda job: Script(*[delta("x" * 60_000)] * 2_000))
        async with served(mesh.app(), section(write_timeout_s=10_000.0), grace_s=10) as door:
            deaf = await door.client()
            await deaf.send("POST", "/v1/chat/completions", chat_body(stream=True))
            await deaf.stream.receive_some(1)
            await trio.testing.wait_all_tasks_blocked(0.01)
            stopped_at = trio.current_time()
            door.stop.set()
            await door.stopped.wait()
            assert trio.current_time() - stopped_at <= 10


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (HEAD + b"upgrade: websocket\r\ncontent-length: 0\r\n\r\n", 501),
            (b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org\r\n\r\n", 501),
            (b"GET http://example.org/ HTTP/1.1\r\nhost: example.org\r\n\r\n", 501),
            (b"head /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", 501),
            (b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n", 501),
            (PREFACE, 505),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"nonsense\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 70_000, 431),
            (HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
            (HEAD + b"content-length: 99999999999\r\n\r\n", 413),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        ],
    )
    async def test_with_an_error_object_and_a_closed_connection(
        self, autojump_clock: MockClock, request_bytes: bytes, status: int
    ) -> None:
        async with served(Mesh().app()) as door:
            client = await door.raw(request_bytes)
            response = await client.read()
            assert (response.status, response.headers["connection"]) == (status, "close")
            assert response.error["message"]
            await client.stream.send_eof()
            assert await client.is_closed()

    async def test_and_a_refused_head_request_gets_a_head_alone(self, autojump_clock: MockClock) -> None:
        async with served(Mesh().app()) as door:
            client = await door.raw(b"HEAD * HTTP/1.1\r\nhost: localhost\r\n\r\n")
            said = await client.all()
            assert said.startswith(b"HTTP/1.1 501 ") and said.endswith(b"\r\n\r\n")
            assert b"connection: close" in said

    async def test_and_what_follows_a_head_request_has_its_body_again(self, autojump_clock: MockClock) -> None:
        async with served(Mesh().app()) as door:
            client = await door.raw(b"HEAD /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n" + b"nonsense\r\n\r\n")
            heads, _, body = (await client.all()).rpartition(b"\r\n\r\n")
            assert heads.startswith(b"HTTP/1.1 200 ") and b"HTTP/1.1 400 " in heads
            assert b"not valid HTTP" in body

    async def test_but_an_offer_of_http2_is_answered_in_http1(self, autojump_clock: MockClock) -> None:
        async with served(Mesh().app()) as door:
            offer = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\n\r\n"
            client = await door.raw(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n" + offer)
            assert (await client.read()).status == 200

    async def test_a_body_in_pieces_that_grows_too_large(self, autojump_clock: MockClock) -> None:
        limits = section(body_limit_bytes=100_000)
        async with joined(Mesh().app(limits), limits) as client:
            piece = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
            await client.stream.send_all(HEAD + b"transfer-encoding: chunked\r\n\r\n" + piece * 10)
            response = await client.read()
            assert (response.status, response.error["code"]) == (413, "request_too_large")
            assert await client.is_closed()

    async def test_a_body_that_is_all_here_and_too_large(self, autojump_clock: MockClock) -> None:
        limits = section(body_limit_bytes=1000)
        async with joined(Mesh().app(limits), limits) as client:
            pieces = (b"200\r\n" + b" " * 0x200 + b"\r\n") * 2 + b"0\r\n\r\n"
            await client.stream.send_all(HEAD + b"transfer-encoding: chunked\r\n\r\n" + pieces)
            response = await client.read()
            assert (response.status, response.error["code"]) == (413, "request_too_large")

    async def test_a_body_that_comes_at_once_or_in_parts_is_the_same(self, autojump_clock: MockClock) -> None:
        mesh = Mesh()
        body = chat_body()
        head = HEAD + b"transfer-encoding: chunked\r\n\r\n"
        pieces = [b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:5], body[5:])] + [b"0\r\n\r\n"]
        async with joined(mesh.app()) as client:
            await client.stream.send_all(head + b"".join(pieces))
            assert (await client.read()).status == 200
            await client.stream.send_all(head)
            for piece in pieces:
                await trio.testing.wait_all_tasks_blocked()
                await client.stream.send_all(piece)
            assert (await client.read()).status == 200
        assert [job.body for job in mesh.jobs] == [body, body]

    async def test_a_refusal_arrives_although_the_client_is_still_sending(self) -> None:
        async with served(Mesh().app(), section(body_limit_bytes=1000)) as door:
            client = await door.raw(HEAD + b"content-length: 3000000\r\n\r\n" + b" " * 100_000)
            await client.stream.send_all(b" " * 2_900_000)
            assert (await client.read()).status == 413


class TestTime:
    async def test_a_slow_head_is_cut(self, autojump_clock: MockClock) -> None:
        async with joined(Mesh().app()) as client:
            await client.stream.send_all(b"POST / HTTP/1.1\r\n")
            for _ in range(4):
                await trio.sleep(1)
                await client.stream.send_all(b"x: y\r\n")
            assert (await client.read()).status == 408
            assert trio.current_time() == pytest.approx(5)

    async def test_a_silent_connection_is_closed(self, autojump_clock: MockClock) -> None:
        async with joined(Mesh().app()) as client:
            assert await client.is_closed()
            assert trio.current_time() == pytest.approx(5)

    async def test_a_kept_connection_may_idle_longer(self, autojump_clock: MockClock) -> None:
        async with joined(Mesh().app()) as client:
            await client.chat()
            await trio.sleep(70)
            await client.chat()
            asked_at = trio.current_time()
            assert await client.is_closed()
            assert trio.current_time() == pytest.approx(asked_at + 75)

    async def test_a_slow_second_head_is_cut_too(self, autojump_clock: MockClock) -> None:
        async with joined(Mesh().app()) as client:
            await client.chat()
            await trio.sleep(60)
            await client.stream.send_all(b"GET ")
            assert (await client.read()).status == 408
            assert trio.current_time() == pytest.approx(65)

    async def test_a_slow_body_is_cut(self, autojump_clock: MockClock) -> None:
        async with joined(Mesh().app()) as client:
            await client.stream.send_all(HEAD + b"content-length: 100\r\n\r\n{")
            response = await client.read()
            assert (response.status, response.error["code"]) == (408, "request_timeout")
            assert trio.current_time() == pytest.approx(30)

    async def test_a_running_request_has_no_limit_of_the_connection(self, autojump_clock: MockClock) -> None:
        async with joined(Mesh(lambda job: Script(500.0, WHOLE, headers=JSON)).app()) as client:
            assert (await client.chat()).status == 200

    async def test_a_client_that_takes_nothing_is_cut(self, autojump_clock: MockClock) -> None:
        answer = Script(*[delta("x")] * 10)
        async with joined(Mesh(lambda job: answer).app(), pair=lockstep_stream_pair()) as client:
            await client.send("POST", "/v1/chat/completions", chat_body(stream=True))
            await trio.sleep(29)
            assert not answer.closed
            await trio.sleep(2)
            assert answer.closed


class TestLeavingIsCancelling:
    @pytest.mark.parametrize("stream", [True, False])
    async def test_while_waiting_for_an_answer(self, autojump_clock: MockClock, stream: bool) -> None:
        async def never(job: Any) -> Any:
            await trio.sleep_forever()

        mesh = Mesh(never)
        async with joined(mesh.app()) as client:
            await client.send("POST", "/v1/chat/completions", chat_body(stream))
            await trio.testing.wait_all_tasks_blocked()
            await client.stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
            assert len(mesh.cancelled) == 1
            assert trio.current_time() == 0

    @pytest.mark.parametrize("kept", [0, 1, 20])
    async def test_while_its_body_is_on_its_way(self, autojump_clock: MockClock, kept: int) -> None:
        mesh, body = Mesh(), chat_body()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        async with joined(mesh.app()) as client:
            await client.stream.send_all(
                head + b"content-length: %d\r\n\r\n" % len(body) + body[: len(body) - kept - 1]
            )
            await trio.testing.wait_all_tasks_blocked()
            await client.stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
            assert (mesh.jobs, mesh.cancelled) == ([], [])
            assert trio.current_time() == 0

    @pytest.mark.parametrize("stream", [True, False])
    async def test_in_the_middle_of_an_answer(self, autojump_clock: MockClock, stream: bool) -> None:
        answer = Script(delta("a"), 600.0, DONE)
        async with joined(Mesh(lambda job: answer).app()) as client:
            await client.send("POST", "/v1/chat/completions", chat_body(stream))
            await trio.testing.wait_all_tasks_blocked()
            assert not answer.closed
            await client.stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
            assert answer.closed
            assert trio.current_time() == 0


class TestOneConnection:
    async def test_carries_request_after_request(self, autojump_clock: MockClock) -> None:
        async with joined(Mesh().app()) as client:
            for _ in range(5):
                assert (await client.chat()).body == WHOLE
                assert (await client.ask("GET", "/healthz")).status == 200

    async def test_answers_pipelined_requests_in_order(self, autojump_clock: MockClock) -> None:
        mesh = Mesh(lambda job: WholeAnswer(200, JSON, job.id.encode()))
        body = chat_body()
        async with joined(mesh.app()) as client:
            await client.stream.send_all(
                b"".join(
                    HEAD + b"x-request-id: %d\r\ncontent-length: %d\r\n\r\n" % (n, len(body)) + body for n in range(3)
                )
            )
            heard = b""
            while heard.count(b"HTTP/1.1 200") < 3 or not heard.endswith(b"2"):
                heard += await client.stream.receive_some()
            assert [part[-1:] for part in heard.split(b"HTTP/1.1 ")[1:]] == [b"0", b"1", b"2"]

    async def test_is_asked_to_continue(self, autojump_clock: MockClock) -> None:
        async with joined(Mesh().app()) as client:
            body = chat_body()
            await client.stream.send_all(HEAD + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body))
            assert (await client.stream.receive_some()).startswith(b"HTTP/1.1 100 ")
            await client.stream.send_all(body)
            assert (await client.read()).status == 200

    async def test_a_short_response_is_one_write(self, autojump_clock: MockClock) -> None:
        async with joined(Mesh().app()) as client:
            await client.send("POST", "/v1/chat/completions", chat_body())
            data = await client.stream.receive_some()
            assert data.startswith(b"HTTP/1.1 200 ")
            assert data.endswith(WHOLE)

    async def test_http_1_0_is_answered_and_closed(self, autojump_clock: MockClock) -> None:
        async with joined(Mesh().app()) as client:
            await client.stream.send_all(b"GET /healthz HTTP/1.0\r\nhost: localhost\r\n\r\n")
            response = await client.read()
            assert (response.status, json.loads(response.body)["status"]) == (200, "ok")
            assert await client.is_closed()


def crash_after(*messages: Any) -> ASGIApp:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        raise ValueError("secret words of a prompt")

    return app


class TestCrashes:
    async def test_before_the_head_is_a_500_and_nothing_of_it_is_told(
        self, autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async with joined(crash_after()) as client:
            response = await client.ask("GET", "/")
            assert (response.status, response.error["type"]) == (500, "server_error")
        told = "".join(capsys.readouterr())
        assert "ValueError" in told
        assert "secret" not in told

    async def test_within_the_body_is_a_cut_response(self, autojump_clock: MockClock) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": []}
        body = {"type": "http.response.body", "body": b"half", "more_body": True}
        async with joined(crash_after(start, body)) as client:
            response = await client.ask("GET", "/")
            assert (response.status, response.body, response.whole) == (200, b"half", False)

    async def test_of_the_server_itself_stays_in_its_connection(
        self, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def explode(*args: Any) -> None:
            raise RuntimeError("boom")

        async with served(Mesh().app()) as door:
            bystander = await door.client()
            assert (await bystander.chat()).status == 200
            with monkeypatch.context() as patch:
                patch.setattr("meshnode.front.protocol.PlainProtocol._check_protocol", explode)
                assert not (await (await door.client()).chat()).whole
            assert (await bystander.chat()).status == 200
