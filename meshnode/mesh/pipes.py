"""How this node reaches others and is reached: the listeners of its mesh port, the addresses it tells, how it dials.

Not for what comes over a connection (net.listen, net.dial). Counterpart: testing.virtual, which makes the same of
memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from meshnode.config.mesh import MeshSection
from meshnode.mesh.addresses import bound_host, join, reachable
from meshnode.mesh.discover import Listening
from meshnode.net import open_listeners, socket_stream
from meshnode.net.dial import Connect


@dataclass(frozen=True, slots=True)
class Pipes:
    """How this node reaches others and is reached: real sockets, or a virtual net in tests.

    `listeners` may be empty: then this node only dials out. `reachable` are the addresses others may dial; `listening`
    is where they are bound. `discovers`: interfaces are watched and neighbours looked for, on a real network only.
    """

    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]
    reachable: tuple[str, ...]
    connect: Connect = socket_stream.connect
    listening: Listening | None = None
    discovers: bool = False

    @property
    def address(self) -> str | None:
        """Where others are listened for, as `host:port`; None without listeners of its own."""
        return join(self.listening.host, self.listening.port) if self.listening is not None else None

    def close(self) -> None:
        """Listen no more. Whoever serves the listeners closes them, too: this is for what fails before. Twice does no
        harm."""
        for listener in self.listeners:
            if isinstance(listener, trio.SocketListener):
                listener.socket.close()


async def open_pipes(section: MeshSection) -> Pipes:
    """Real sockets as the configuration says. Raises ConfigError, StartError when the port is taken."""
    if section.listen == "none":
        return Pipes((), (), discovers=True)
    listeners = await open_listeners(section.listen)
    bound = [listener.socket.getsockname()[:2] for listener in listeners]
    host, port = bound_host([host for host, _ in bound]), bound[0][1]
    try:
        addresses = section.advertise or await trio.to_thread.run_sync(reachable, host, port)
    except BaseException:
        Pipes(listeners, ()).close()
        raise
    return Pipes(listeners, addresses, listening=Listening(host, port, addresses), discovers=True)
