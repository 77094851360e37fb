"""What neighbours are sent besides news: the table on a new link, and rounds of anti-entropy with one at a time.

Part of the gossip machine, which hands in frames and performs the commands. What a round compares is exchange.py's; not
for flooding news (machine.py). protocol.md §5.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from meshnode.config.gossip import GossipSection
from meshnode.gossip.events import Command, Send
from meshnode.gossip.exchange import carried, compare, listing
from meshnode.gossip.messages import (
    MAX_WANTED,
    Digest,
    Versions,
    Want,
    advert_frames,
    encode_message,
    version_frames,
)
from meshnode.gossip.neighbour import Neighbour, burst, neighbour
from meshnode.gossip.proofs import Conviction, Proofs
from meshnode.gossip.table import Entry, State, Table
from meshnode.model.ids import NodeId


@dataclass(slots=True)
class Rounds:
    """`links` are the neighbours with their budgets; `unwanted` is never asked for up to its orders."""

    section: GossipSection
    table: Table
    proofs: Proofs
    unwanted: Mapping[NodeId, tuple[int, int]]
    rng: random.Random
    links: dict[NodeId, Neighbour] = field(default_factory=dict)
    due: float | None = None
    """When the next round is to begin; None without a neighbour."""
    begun: int = 0

    def up(self, node: NodeId, now: float) -> None:
        """A new neighbour, or a new link to an old one: with full budgets."""
        self.links[node] = neighbour(self.section)
        if self.due is None:
            # Nodes that started together should not compare together.
            self.due = now + self.section.anti_entropy_s * self.rng.random()

    def down(self, node: NodeId) -> None:
        """The link to `node` is gone."""
        self.links.pop(node, None)

    def greet(self, node: NodeId, now: float) -> list[Command]:
        """A new neighbour gets the table; where that is more than it can check at once, the rest by comparing."""
        entries = self.table.spread()
        about = self.table.get(node)
        if about is not None and about.state is State.OVER:
            # Should it have lost its counter, this shows it how far it had counted.
            entries.append(about)
        digest = [self._digest(node)] if len(entries) > burst(self.section) else []
        return [*digest, *self._serve(node, entries, now)]

    def begin(self, now: float, *, left: bool) -> list[Command]:
        """One round with one neighbour if it is time; none begins any more once this node has `left`."""
        if self.due is None or self.due > now:
            return []
        self.due = None
        if not self.links or left:
            return []
        self.due = now + self.section.anti_entropy_s * self.rng.uniform(0.9, 1.1)
        chosen = self.rng.choice([n for n, link in self.links.items() if link.starved] or list(self.links))
        self.links[chosen].starved = False
        self.begun += 1
        return [self._digest(chosen)]

    def compared(self, frm: NodeId, sums: bytes, now: float) -> list[Command]:
        """`frm` asks what is known here where its own sums differ."""
        if not self.links[frm].digests.take(now):
            return []
        lists = listing(self.table, self.table.digests.differing(sums))
        return [Send(frm, frame) for frame in version_frames(lists)]

    def listed(self, frm: NodeId, theirs: Versions, now: float) -> list[Command]:
        """`frm` lists what it knows: ask for what is newer there, send what is newer here."""
        link = self.links[frm]
        wanted, newer = compare(self.table, theirs, self.unwanted)
        commands: list[Command] = []
        for conviction in [c for node in wanted if (c := self.proofs.held(node, now)) is not None]:
            wanted.remove(conviction.node)
            commands += self.show(frm, conviction, now)
        room = min(link.checks.available(now), MAX_WANTED)
        if len(wanted) > room:
            link.starved = True
            wanted = self.rng.sample(wanted, room)
        if wanted:
            commands.append(Send(frm, encode_message(Want(tuple(wanted)))))
        return commands + self._serve(frm, newer, now)

    def wanted(self, frm: NodeId, ids: Iterable[bytes], now: float) -> list[Command]:
        """`frm` asks for these nodes' adverts."""
        found = (self.table.get(NodeId(id_)) for id_ in dict.fromkeys(ids))
        return self._serve(frm, [entry for entry in found if entry is not None], now)

    def show(self, frm: NodeId, conviction: Conviction, now: float) -> list[Command]:
        """Whoever still believes the convicted gets the proof: floods lose some, and links come late."""
        if frm == conviction.node or not self.links[frm].proofs.take(now):
            return []
        return [Send(frm, conviction.frame)]

    def _serve(self, node: NodeId, entries: list[Entry], now: float) -> list[Command]:
        """Send what another lacks, within its budget; by lot where that is too small, so that what it refuses again
        and again does not stand before the rest."""
        served = self.links[node].served
        room = served.available(now)
        if len(entries) > room:
            entries = self.rng.sample(entries, room)
        served.take(now, len(entries))
        return [Send(node, frame) for frame in advert_frames(carried(entries, now))]

    def _digest(self, node: NodeId) -> Send:
        return Send(node, encode_message(Digest(self.table.digests.packed())))
