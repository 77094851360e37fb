"""Writes down where peers were reached, so that a restarted node finds its mesh again without being told.

What is worth remembering the overlay says; hints are all these are. Counterpart: keep.addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from meshnode.errors import SecretFileError
from meshnode.keep.addresses import Remembered, load_addresses, save_addresses
from meshnode.keep.home import Home
from meshnode.model.ids import NodeId
from meshnode.observe import log

logger = log.get("mesh")

REMEMBER_S = 30.0
"""Between looks at whether there is anything new to write down."""

Reached = Callable[[], Sequence[tuple[NodeId, tuple[str, ...]]]]


class AddressBook:
    """The peers of one mesh with their addresses. `disk` keeps writers of the home apart."""

    def __init__(self, home: Home, mesh_id: bytes, disk: trio.Lock) -> None:
        """Raises SecretFileError for a file that others could have written."""
        self._path = home.addresses
        self._mesh_id = mesh_id
        self._disk = disk
        self._kept = load_addresses(self._path, mesh_id)
        self._closed = False

    def known(self) -> dict[NodeId, tuple[str, ...]]:
        """Peers of earlier runs, the likeliest first."""
        return {one.id: one.addresses for one in self._kept}

    async def run(self, reached: Reached, changed: Callable[[], trio.Event]) -> None:
        """Keep up with `reached()`; `changed()` is set when it may be another. Returns only by cancellation."""
        while True:
            found = tuple(Remembered(node, addresses) for node, addresses in reached())
            if found and found != self._kept:
                await self._keep(found)
            with trio.move_on_after(REMEMBER_S):
                await changed().wait()
            await trio.sleep(1.0)

    async def forget(self, node: NodeId) -> None:
        """Drop one peer."""
        left = tuple(one for one in self._kept if one.id != node)
        if left != self._kept:
            await self._keep(left)

    def close(self) -> None:
        """Write nothing any more: the home is another mesh's."""
        self._closed = True

    async def _keep(self, found: tuple[Remembered, ...]) -> None:
        """A node whose disk is full goes on without them."""
        async with self._disk:
            self._kept = found
            if self._closed:
                return
            try:
                await trio.to_thread.run_sync(save_addresses, self._path, self._mesh_id, found, abandon_on_cancel=False)
            except SecretFileError as error:
                logger.warning("peers' addresses cannot be kept", reason=str(error))
