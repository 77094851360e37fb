"""The compiled programs do what their figures claim: the engine speaks HTTP, the load counts to the last event."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.build import BenchError, Tools, compiler, tools
from benchmarks.child import running
from tests.kit.waiting import PATIENCE_S

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(compiler() is None or sys.platform != "linux", reason="needs Linux and a C compiler"),
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    return tools(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def engine(programs: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    directory = tmp_path_factory.mktemp("engine")
    with running("engine", [str(programs.engine)], directory, dict(os.environ)) as child:
        yield int(child.wait_ready(PATIENCE_S)["port"])


@contextmanager
def connected(port: int) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection, **fields: object) -> bytes:
    connection.request("POST", "/v1/chat/completions", json.dumps({"model": "bench", **fields}))
    answer = connection.getresponse()
    assert answer.status == 200
    return answer.read()


def events(body: bytes) -> list[Any]:
    blocks = body.decode().split("\n\n")
    assert blocks.pop() == ""
    assert blocks.pop() == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def load(programs: Tools, port: int, *arguments: str) -> dict[str, Any]:
    """Ends by --requests or by a thousand errors; the seconds are only the longest it may take."""
    command = [str(programs.load), "--port", str(port), "--warmup", "0", "--seconds", str(PATIENCE_S), *arguments]
    said: dict[str, Any] = json.loads(
        subprocess.run(command, capture_output=True, check=True, timeout=2 * PATIENCE_S).stdout
    )
    return said


@pytest.mark.parametrize(
    ("path", "key"), [("/health", "status"), ("/v1/models", "data"), ("/props", "default_generation_settings")]
)
def test_a_prober_takes_the_engine_for_a_llama_server(engine: int, path: str, key: str) -> None:
    with connected(engine) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Server"]) == (200, "llama.cpp")
        assert key in json.loads(answer.read())


def test_other_paths_are_not_found(engine: int) -> None:
    with connected(engine) as connection:
        connection.request("GET", "/api/tags")
        answer = connection.getresponse()
        assert answer.status == 404
        assert json.loads(answer.read())["error"]["code"] == 404


def test_a_plain_answer_has_a_text_and_its_usage(engine: int) -> None:
    with connected(engine) as connection:
        answer = json.loads(ask(connection))
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["total_tokens"] == 14


@pytest.mark.parametrize("rate", ["", "bench_rate=5000"])
def test_a_stream_has_every_token_once_and_an_end(engine: int, rate: str) -> None:
    with connected(engine) as connection:
        messages = [{"role": "user", "content": rate}]
        body = ask(connection, stream=True, max_tokens=300, messages=messages, stream_options={"include_usage": True})
        *tokens, finish, usage = events(body)
        assert json.loads(ask(connection))["object"] == "chat.completion"  # the connection serves on
    texts = [token["choices"][0]["delta"]["content"] for token in tokens]
    assert texts == ["Some", *(f" {number:05}" for number in range(1, 300))]
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"]["completion_tokens"] == 300


def test_a_request_may_come_in_pieces_and_two_at_once(engine: int) -> None:
    one = b'POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n{"stream": false}'
    last = one.replace(b"Host: x", b"Connection: close")
    with socket.create_connection(("127.0.0.1", engine), timeout=PATIENCE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in range(0, len(one), 7):
            connection.sendall(one[cut : cut + 7])
        connection.sendall(one + last)
        with connection.makefile("rb") as answer:
            assert answer.read().count(b"HTTP/1.1 200 OK") == 3


def test_plain_answers_are_counted(programs: Tools, engine: int) -> None:
    said = load(programs, engine, "--clients", "4", "--requests", "100")
    assert said["errors"] == 0
    assert said["total_requests"] == said["requests"] == said["latency_n"] >= 100


@pytest.mark.parametrize("pace", [["flat"], ["paced", "--rate", "5000"]])
def test_every_event_of_every_stream_is_counted(programs: Tools, engine: int, pace: list[str]) -> None:
    said = load(programs, engine, "--clients", "1", "--requests", "10", "--tokens", "30", "--mode", *pace)
    assert said["errors"] == 0
    assert said["total_requests"] == 10
    # The eleventh stream may have begun.
    assert 10 * 31 <= said["total_chunks"] <= 11 * 31
    assert said["ttft_n"] >= 10


def chunked(*pieces: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%X;x=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nx: y\r\n\r\n"


STREAM = b': hello\n\ndata: {"a": "data: {"}\r\n\r\ndata:{"b": 1}\n\nevent: x\ndata: {"c": 2}\n\ndata: [DONE]\n\n'
"""Three events, with what else a stream may hold."""


@contextmanager
def server(answer: bytes, step: int) -> Iterator[int]:
    """Gives every request the same answer in pieces of `step` bytes, and closes where the answer does."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as requests:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    give(connection, requests)
                except OSError:  # the load has what it wanted
                    continue

    def give(connection: socket.socket, requests: Any) -> None:
        while requests.readline():
            length = 0
            while (line := requests.readline()) != b"\r\n":
                length = int(line.split()[1]) if line.startswith(b"Content-Length") else length
            requests.read(length)
            for cut in range(0, len(answer), step):
                connection.sendall(answer[cut : cut + step])
            if not answer.endswith(b"\r\n\r\n"):
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100_000])
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_events_are_counted_whatever_the_cuts(programs: Tools, step: int, size: int) -> None:
    pieces = [STREAM[cut : cut + size] for cut in range(0, len(STREAM), size)]
    with server(chunked(*pieces), step) as port:
        said = load(programs, port, "--mode", "flat", "--requests", "5")
    assert (said["errors"], said["total_requests"]) == (0, 5)
    assert 15 <= said["total_chunks"] <= 18


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", "status 503"),
        (chunked(b'data: {"a": 1}\n\n'), "without [DONE]"),
        (chunked(STREAM)[:-20], "ended before"),
        (b"SSH-2.0-nothing\r\n\r\n", "not an HTTP/1.1 answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, "head too long"),
    ],
)
def test_what_is_no_whole_answer_is_an_error(programs: Tools, answer: bytes, reason: str) -> None:
    with server(answer, 100_000) as port:
        said = load(programs, port, "--mode", "flat")
    assert said["errors"] > 0
    assert said["total_requests"] == 0
    assert reason in said["first_error"]


def test_a_server_that_is_not_there_is_an_error(programs: Tools) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    said = load(programs, port)
    assert said["errors"] > 0
    assert "refused" in said["first_error"]


def test_without_a_compiler_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(BenchError, match="install gcc or clang"):
        tools(tmp_path)
