"""The serve loop keeps its caps, and stops without cutting answers."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import ConfigError, StartError
from meshnode.front import beyond_loopback, open_listeners
from tests.front.fakes import DONE, Mesh, Script, chat_body, delta, section, served


class TestCaps:
    @pytest.mark.parametrize("limits", [{"connections": 2}, {"connections_per_address": 2}])
    async def test_one_too_many_is_told_so(self, limits: dict[str, Any], autojump_clock: MockClock) -> None:
        async with served(Mesh().app(), section(**limits)) as door:
            first, second = await door.client(), await door.client()
            assert (await first.chat()).status == (await second.chat()).status == 200
            third = await (await door.raw(b"")).read()
            assert (third.status, third.error["code"]) == (503, "unavailable")
            await first.stream.aclose()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert (await (await door.client()).chat()).status == 200


class TestStopping:
    async def test_lets_an_answer_finish_and_then_closes(self, autojump_clock: MockClock) -> None:
        async with served(Mesh(lambda job: Script(delta("a"), 8.0, DONE)).app(), grace_s=10) as door:
            busy, idle = await door.client(), await door.client()
            assert (await idle.ask("GET", "/healthz")).status == 200
            await busy.send("POST", "/v1/chat/completions", chat_body(stream=True))
            await trio.sleep(1)
            asks, began = await door.client(), trio.current_time()
            assert (await asks.ask("GET", "/healthz")).status == 200
            door.stop.set()
            await trio.testing.wait_all_tasks_blocked(0.01)
            # Whoever asks meanwhile is answered, for the last time.
            last = await asks.ask("GET", "/healthz")
            assert (last.status, last.headers["connection"]) == (200, "close")
            assert await asks.is_closed()
            response = await busy.read()
            assert (response.body, response.whole) == (delta("a") + DONE, True)
            assert await idle.is_closed()
            assert trio.current_time() >= began + 6
            assert await busy.is_closed()
            await busy.stream.aclose()
            await door.stopped.wait()
            assert trio.current_time() <= 10

    async def test_answers_whoever_comes_until_the_last_answer_has_ended(self, autojump_clock: MockClock) -> None:
        async with served(Mesh(lambda job: Script(5.0, DONE)).app()) as door:
            busy = await door.client()
            await busy.send("POST", "/v1/chat/completions", chat_body(stream=True))
            await trio.sleep(1)
            door.stop.set()
            await trio.testing.wait_all_tasks_blocked(0.01)
            probe = await (await door.client()).ask("GET", "/healthz")
            assert (probe.status, probe.headers["connection"]) == (200, "close")
            assert (await busy.read()).whole
            await door.stopped.wait()
            with pytest.raises(OSError, match="all attempts to connect"):
                await door.client()

    async def test_cuts_what_outlives_the_grace(self, autojump_clock: MockClock) -> None:
        answer = Script(delta("a"), 10_000.0)
        async with served(Mesh(lambda job: answer).app(), grace_s=10) as door:
            client = await door.client()
            await client.send("POST", "/v1/chat/completions", chat_body(stream=True))
            await trio.sleep(1)
            door.stop.set()
            await door.stopped.wait()
            assert trio.current_time() == pytest.approx(11)
            assert answer.closed
            assert not (await client.read()).whole


async def test_an_address_in_use_is_said_so() -> None:
    listeners = await open_listeners(section())
    port = listeners[0].socket.getsockname()[1]
    with pytest.raises(StartError, match="cannot listen") as caught:
        await open_listeners(section(api=f"127.0.0.1:{port}"))
    assert caught.value.address == f"127.0.0.1:{port}"
    for listener in listeners:
        await listener.aclose()


@pytest.mark.parametrize("api", ["127.0.0.1:99999", "nonsense", "6374", "127.0.0.1:"])
async def test_what_is_no_address_is_a_fault_of_the_configuration(api: str) -> None:
    with pytest.raises(ConfigError, match=r"front\.api: not an address"):
        await open_listeners(section(api=api))


async def test_an_address_beyond_loopback_is_opened_only_on_purpose_and_with_keys() -> None:
    everywhere: dict[str, Any] = {"api": "0.0.0.0:0"}
    with pytest.raises(ConfigError) as caught:
        await open_listeners(section(**everywhere))
    assert [word in fault for fault, word in zip(caught.value.faults, ("keys add", "open_to_network"), strict=True)]
    with pytest.raises(ConfigError, match="keys add"):
        await open_listeners(section(**everywhere, open_to_network=True))
    with pytest.raises(ConfigError, match="not encrypted"):
        await open_listeners(section(**everywhere), keyed=True)
    for settings, keyed, beyond in (
        ({**everywhere, "open_to_network": True}, True, True),
        ({**everywhere, "open_to_network": True, "require_key": True}, False, True),
        ({"api": "localhost:0"}, False, False),
    ):
        listeners = await open_listeners(section(**settings), keyed=keyed)
        assert beyond_loopback(listeners) is beyond
        for listener in listeners:
            await listener.aclose()
