"""The engine client against real sockets: framing, keep-alive, cuts and refusals."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from meshnode.config.engine import EngineSection
from meshnode.engine.client import EngineAnswer, EngineClient, whole
from meshnode.errors import BadRequest, EngineFailed
from meshnode.testing import Behaviour, FakeEngine
from tests.engine.conftest import Script
from tests.engine.wire import answer

CHAT = b'{"model":"fake-model","messages":[],"stream":true}'


async def all_of(got: EngineAnswer) -> bytes:
    return await whole(got, 1 << 20)


async def test_a_whole_answer_keeps_status_headers_and_bytes(scripted: Script) -> None:
    _, client = await scripted([answer(b"hello", "X-Thing: Yes")])
    got = await client.request("POST", "/v1/x", {"content-type": "text/plain"}, b"ask")
    assert (got.status, got.headers["x-thing"], await all_of(got)) == (200, "Yes", b"hello")


async def test_headers_that_come_again_are_one_list(scripted: Script) -> None:
    _, client = await scripted([answer(b"", "Vary: origin", "X-Thing: 1", "vary: accept")])
    got = await client.request("GET", "/v1/x")
    assert (got.headers["vary"], got.headers["x-thing"]) == ("origin, accept", "1")
    await all_of(got)


async def test_the_request_is_what_was_asked(scripted: Script) -> None:
    server, client = await scripted([answer(b"")])
    await all_of(await client.request("POST", "/v1/x", {"a": "b"}, b"ask"))
    head = f"POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\na: b\r\ncontent-length: 3\r\n\r\nask"
    assert server.requests == [head.encode()]


async def test_a_base_url_keeps_its_path_and_loses_v1() -> None:
    client = EngineClient("http://127.0.0.1:9/gate/v1/")
    assert client.url == "http://127.0.0.1:9/gate"
    assert client._message("GET", "/v1/models", None, b"").startswith(b"GET /gate/v1/models HTTP/1.1\r\n")


async def test_one_connection_serves_request_after_request(scripted: Script) -> None:
    server, client = await scripted([answer(b"one"), answer(b"two"), answer(b"three")])
    assert [await all_of(await client.request("GET", "/")) for _ in range(3)] == [b"one", b"two", b"three"]
    assert server.connections == 1
    assert client.active == 0


async def test_an_idle_connection_that_died_is_replaced_once(scripted: Script) -> None:
    server, client = await scripted([answer(b"one")], [answer(b"two")])
    assert await all_of(await client.request("GET", "/")) == b"one"
    await server.closed[0].wait()
    assert await all_of(await client.request("GET", "/")) == b"two"
    assert server.connections == 2


async def test_a_fresh_connection_that_dies_is_not_tried_again(scripted: Script) -> None:
    server, client = await scripted([b""], [answer(b"never")])
    with pytest.raises(EngineFailed, match="closed the connection without an answer"):
        await client.request("POST", "/", None, b"x")
    assert server.connections == 1


async def test_a_reused_connection_that_dies_inside_the_head_is_not_tried_again(scripted: Script) -> None:
    server, client = await scripted([answer(b"one"), b"HTTP/1.1 200 OK\r\nContent-"], [answer(b"never")])
    await all_of(await client.request("GET", "/"))
    with pytest.raises(EngineFailed, match="middle of an answer's head"):
        await client.request("POST", "/", None, b"x")
    assert server.connections == 1


@pytest.mark.parametrize(
    "said",
    ["Content-Length: 9\r\n\r\nhel", "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n"],
    ids=["content-length", "chunked"],
)
async def test_an_answer_that_ends_early_is_a_failure(scripted: Script, said: str) -> None:
    _, client = await scripted([f"HTTP/1.1 200 OK\r\n{said}".encode()])
    got = await client.request("GET", "/")
    assert await anext(got) == b"hel"
    with pytest.raises(EngineFailed, match="ended the answer early"):
        await anext(got)
    assert client.active == 0


async def test_a_body_without_a_length_ends_with_the_connection(scripted: Script) -> None:
    _, client = await scripted([b"HTTP/1.1 200 OK\r\n\r\nall of it"])
    assert await all_of(await client.request("GET", "/")) == b"all of it"


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_ends_at_its_head(scripted: Script, status: int) -> None:
    server, client = await scripted([f"HTTP/1.1 {status} X\r\n\r\n".encode(), answer(b"next")])
    assert await all_of(await client.request("GET", "/")) == b""
    assert await all_of(await client.request("GET", "/")) == b"next"
    assert server.connections == 1


async def test_interim_answers_are_passed_over(scripted: Script) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    _, client = await scripted([interim + answer(b"real")])
    got = await client.request("GET", "/")
    assert (got.status, "link" in got.headers, await all_of(got)) == (200, False, b"real")


@pytest.mark.parametrize(
    "said", [answer(b"one", "Connection: close"), answer(b"one") + answer(b"unasked")], ids=["close", "surplus"]
)
async def test_a_connection_that_cannot_be_trusted_is_not_used_again(scripted: Script, said: bytes) -> None:
    server, client = await scripted([said], [answer(b"two")], linger=True)
    assert await all_of(await client.request("GET", "/")) == b"one"
    assert await all_of(await client.request("GET", "/")) == b"two"
    assert server.connections == 2


async def test_what_is_not_http_is_a_failure(scripted: Script) -> None:
    _, client = await scripted([b"SSH-2.0-OpenSSH\r\n"])
    with pytest.raises(EngineFailed, match="not HTTP"):
        await client.request("GET", "/")


async def test_an_endless_head_is_a_failure(scripted: Script) -> None:
    _, client = await scripted([b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000], linger=True)
    with pytest.raises(EngineFailed, match="head of more than"):
        await client.request("GET", "/")


async def test_an_endless_answer_is_a_failure_but_an_endless_stream_is_not(scripted: Script) -> None:
    said = [answer(b"x" * 5000)], [answer(b"x" * 5000, "Content-Type: text/event-stream")]
    server, _ = await scripted(*said)
    client = EngineClient(f"http://127.0.0.1:{server.port}", EngineSection(answer_limit_bytes=4096))
    with pytest.raises(EngineFailed, match="more than 4096 bytes"):
        await all_of(await client.request("GET", "/"))
    assert len(await all_of(await client.request("GET", "/"))) == 5000
    client.close()


async def test_nobody_listening_is_told_as_such() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with pytest.raises(EngineFailed, match="is not reachable: connection refused"):
        await EngineClient(f"http://127.0.0.1:{port}").request("GET", "/")


async def test_a_connect_that_takes_too_long_is_a_failure(autojump_clock: trio.testing.MockClock) -> None:
    async def never() -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    client = EngineClient("http://engine", EngineSection(connect_timeout_s=2), dial=never)
    with pytest.raises(EngineFailed, match="no connection within 2 s"):
        await client.request("GET", "/")
    assert client.active == 0


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://", "http://user:word@host", "http://h:99999", "engine"])
def test_only_plain_http_urls_are_engines(url: str) -> None:
    with pytest.raises(EngineFailed):
        EngineClient(url)


@pytest.mark.parametrize("url", ["http://me:s3cret@host:1", "http://host:1/v1?key=s3cret", "http://host:1/#s3cret"])
def test_a_secret_in_an_engines_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(EngineFailed) as refused:
        EngineClient(url)
    assert "s3cret" not in str(refused.value)


async def test_closing_an_answer_that_is_being_read_counts_once(scripted: Script, nursery: trio.Nursery) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"
    _, client = await scripted([head], linger=True)
    got = await client.request("GET", "/")
    assert await anext(got) == b"x"
    ended = trio.Event()

    async def read() -> None:
        with pytest.raises(EngineFailed):
            await anext(got)
        ended.set()

    nursery.start_soon(read)
    await trio.testing.wait_all_tasks_blocked()
    await got.aclose()
    await ended.wait()
    assert client.active == 0


async def test_an_engine_that_refuses_a_body_unread_is_heard() -> None:
    """It has answered and closed while the body was still being sent."""
    ours, theirs = memory_stream_pair()
    await theirs.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nlong")
    await theirs.aclose()

    async def dial() -> trio.abc.Stream:
        return ours

    got = await EngineClient("http://h", dial=dial).request("POST", "/", {}, b"body")
    assert (got.status, await all_of(got)) == (413, b"long")


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/a b", {}), ("/a\r\nX: y", {}), ("/ä", {}), ("/", {"x": "a\r\ny: b"}), ("/", {"x": "a\nb"}), ("/", {"x": "☃"})],
)
def test_nothing_can_be_smuggled_into_a_head(path: str, headers: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        EngineClient("http://h")._message("POST", path, headers, b"")


async def test_closing_before_the_end_frees_the_engines_slot(fake: FakeEngine, client: EngineClient) -> None:
    fake.behaviour = Behaviour(hang="stream")
    got = await client.request("POST", "/v1/chat/completions", None, CHAT)
    assert b"assistant" in await anext(got)
    assert fake.running == client.active == 1
    await got.aclose()
    await got.aclose()
    await fake.cut()
    assert fake.running == client.active == 0


async def test_cancelling_in_prefill_frees_the_engines_slot(fake: FakeEngine, client: EngineClient) -> None:
    fake.behaviour = Behaviour(hang="prefill")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.request, "POST", "/v1/chat/completions", None, CHAT)
        await fake.started()
        nursery.cancel_scope.cancel()
    await fake.cut()
    assert client.active == 0


async def test_all_that_one_read_brought_is_one_chunk(scripted: Script) -> None:
    chunks = b"".join(b"1\r\n%d\r\n" % n for n in range(9))
    _, client = await scripted([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"])
    got = await client.request("GET", "/")
    assert [chunk async for chunk in got] == [b"012345678"]


async def test_pruning_closes_only_what_the_engine_has_ended(scripted: Script) -> None:
    server, client = await scripted([answer(b"one")], [answer(b"two")], linger=False)
    await all_of(await client.request("GET", "/"))
    await server.closed[0].wait()
    client.prune()
    assert len(client._idle) == 0

    server, client = await scripted([answer(b"one")], linger=True)
    await all_of(await client.request("GET", "/"))
    client.prune()
    assert len(client._idle) == 1


async def test_many_requests_at_once_leave_a_bounded_pool(fake: FakeEngine) -> None:
    client = EngineClient(fake.url, EngineSection(idle_connections=3))

    async def one() -> None:
        assert b"[DONE]" in await all_of(await client.request("POST", "/v1/chat/completions", None, CHAT))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    assert client.active == 0
    assert len(client._idle) <= 3
    client.close()
    assert len(client._idle) == 0


BODIES = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5)


@settings(deadline=None, max_examples=60)
@given(bodies=BODIES, cuts=st.lists(st.integers(1, 30), max_size=30), chunked=st.booleans())
def test_any_cut_of_the_wire_gives_the_same_body(bodies: list[bytes], cuts: list[int], chunked: bool) -> None:
    body = b"".join(bodies)
    wire = answer(body)
    if chunked:
        parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in bodies)
        wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"

    async def talk() -> bytes:
        ours, theirs = memory_stream_pair()

        async def dial() -> trio.abc.Stream:
            return ours

        async def serve() -> None:
            await theirs.receive_some()
            rest = wire
            for size in cuts:
                if rest[:size]:
                    await theirs.send_all(rest[:size])
                    await trio.testing.wait_all_tasks_blocked()
                rest = rest[size:]
            if rest:
                await theirs.send_all(rest)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            client = EngineClient("http://engine", dial=dial)
            got = await all_of(await client.request("GET", "/"))
            assert len(client._idle) == 1
        return got

    assert trio.run(talk) == body


def own_certificate(folder: Path) -> ssl.SSLContext:
    """A server's context with a certificate that nobody but this test knows; the certificate lies in `folder`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "engine")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    (folder / "engine.pem").write_bytes(key.private_bytes(pem, *form) + made.public_bytes(pem))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "engine.pem")
    return context


async def test_https_is_spoken_only_with_a_certificate_that_is_known(nursery: trio.Nursery, tmp_path: Path) -> None:
    fake, context = FakeEngine(), own_certificate(tmp_path)

    async def serve(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await fake.serve_stream(trio.SSLStream(stream, context, server_side=True, https_compatible=True))

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, listeners)
    client = EngineClient(f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
    with pytest.raises(EngineFailed, match="certificate verify failed"):
        await client.request("GET", "/health")

    client._tls = ssl.create_default_context(cafile=str(tmp_path / "engine.pem"))
    assert await client.read("GET", "/health") == (200, b'{"status":"ok"}')
    assert await client.read("GET", "/health") == (200, b'{"status":"ok"}')
    client.close()
