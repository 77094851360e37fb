"""How a node is reached: what it listens on, what it tells others to dial, and that a start which fails frees it."""

from __future__ import annotations

import dataclasses
import socket

import pytest
import trio

from meshnode.config.mesh import MeshSection
from meshnode.errors import ConfigError, StartError
from meshnode.mesh import pipes
from meshnode.mesh.pipes import Pipes, open_pipes
from meshnode.net import socket_stream
from meshnode.net.dial import split_address


async def opened(listen: str, **settings: object) -> Pipes:
    return await open_pipes(dataclasses.replace(MeshSection(), listen=listen, **settings))  # type: ignore[arg-type]


def is_free(port: int) -> bool:
    """Whether somebody else can listen there now."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", port))
            other.listen()
        except OSError:
            return False
    return True


async def test_a_node_that_only_dials_out_listens_nowhere_and_tells_nothing() -> None:
    made = await opened("none", advertise=("studio:6375",))
    assert (made.address, made.reachable, list(made.listeners)) == (None, (), [])
    assert made.discovers
    made.close()


async def test_whoever_dials_what_is_told_gets_in() -> None:
    made = await opened("127.0.0.1:0")
    assert made.reachable == (made.address,)
    (listener,) = made.listeners
    near = await made.connect(*split_address(made.reachable[0]))
    far = await listener.accept()
    await near.send_all(b"hello")
    assert await far.receive_some() == b"hello"
    for stream in (near, far):
        await stream.aclose()
    made.close()


async def test_every_interface_is_one_port_and_never_told_as_such() -> None:
    made = await opened(":0")
    assert made.listening is not None
    ports = {listener.socket.getsockname()[1] for listener in made.listeners}  # type: ignore[attr-defined]
    assert ports == {made.listening.port}
    assert made.reachable
    for address in made.reachable:
        host, port = split_address(address)
        assert host not in ("", "0.0.0.0", "::") and port == made.listening.port
    made.close()


async def test_what_people_say_is_told_in_place_of_what_was_found() -> None:
    made = await opened("127.0.0.1:0", advertise=("studio.example:1234",))
    assert made.reachable == ("studio.example:1234",)
    assert made.address is not None and made.address.startswith("127.0.0.1:")
    made.close()


async def test_a_port_in_use_is_named_and_what_is_no_address_too() -> None:
    first = await opened("127.0.0.1:0")
    assert first.address is not None
    with pytest.raises(StartError, match=first.address):
        await opened(first.address)
    with pytest.raises(ConfigError, match=r"mesh\.listen"):
        await opened("studio")
    first.close()
    # It is free at once, and closing again is nobody's loss.
    second = await opened(first.address)
    first.close()
    near = await socket_stream.connect(*split_address(first.address))
    await near.aclose()
    second.close()


async def test_a_start_that_is_given_up_leaves_no_port_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """While this machine's interfaces are read, which is done in a thread."""
    ports: list[int] = []
    with trio.CancelScope() as scope:

        async def read(work: object, host: str, port: int) -> tuple[str, ...]:
            ports.append(port)
            scope.cancel()
            await trio.sleep_forever()
            return ()

        monkeypatch.setattr(pipes.trio.to_thread, "run_sync", read)
        await opened("127.0.0.1:0")
    assert scope.cancelled_caught
    assert is_free(ports[0])
