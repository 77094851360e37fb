"""The gossip machine: floods new adverts at once, compares tables with one random neighbour at a time, and watches
whether neighbours live (detector.py).

`handle(event, now) -> list[Command]`, `next_wakeup()`. No work per message beyond what the message holds. Not for
who should be linked (overlay.py) nor whether a node can be reached (routing). Counterpart: mesh.gossiper.
protocol.md §5.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf

from meshnode.config.gossip import GossipSection
from meshnode.errors import DecodeError, ProtocolViolation
from meshnode.gossip.detector import Detector
from meshnode.gossip.events import (
    Changed,
    Command,
    Convicted,
    Counted,
    Describe,
    Event,
    Forget,
    Heard,
    Leave,
    NeighbourDown,
    NeighbourUp,
    Received,
    Reconsider,
    Send,
    Tick,
    Trimmed,
    Verdict,
    Violation,
)
from meshnode.gossip.exchange import carried, compare, listing
from meshnode.gossip.facts import Facts
from meshnode.gossip.intake import REASONS, Intake, Taken
from meshnode.gossip.messages import (
    MAX_WANTED,
    Ack,
    AckFor,
    Adverts,
    Carried,
    Digest,
    Probe,
    ProbeFor,
    Proof,
    Suspect,
    Versions,
    Want,
    advert_frames,
    decode_message,
    encode_message,
    version_frames,
)
from meshnode.gossip.neighbour import Neighbour, burst, neighbour
from meshnode.gossip.own import Own
from meshnode.gossip.proofs import Conviction, Proofs
from meshnode.gossip.rates import Bucket
from meshnode.gossip.table import Entry, State, Table
from meshnode.model.advert import Advert, SignedAdvert
from meshnode.model.ids import NodeId

_RECENT = 128
_RECENT_BYTES = 2048
"""News comes from every neighbour within moments, in the same bytes: those frames are not read twice."""

_REFUTATIONS = 2
_REFUTATION_S = 10.0
"""Adverts said because somebody suspects this node: each floods the mesh, and anybody may suspect."""


def _nothing_to_tell() -> Facts | None:
    return None


@dataclass(slots=True)
class _Turn:
    """What one call of `handle` gathers."""

    now: float
    commands: list[Command] = field(default_factory=list)
    changed: set[NodeId] = field(default_factory=set)


class Gossip:
    """One node's share of the gossip.

    `judge(advert, body, signature)` and `sign(body)` are handed an advert's bytes; they add the domain separation of
    `model.advert.ADVERT_CONTEXT`. `incarnation` is to be larger than at every earlier start. `facts()` is this node's
    load, None where it serves nothing. Describe before the first neighbour comes up. `handle` raises DecodeError for a
    Describe that no node would accept, and nothing else.
    """

    def __init__(
        self,
        me: NodeId,
        section: GossipSection,
        judge: Callable[[Advert, bytes, bytes], Verdict],
        sign: Callable[[bytes], bytes],
        rng: random.Random,
        incarnation: int,
        facts: Callable[[], Facts | None] = _nothing_to_tell,
    ) -> None:
        self.me = me
        self._section = section
        self._rng = rng
        self._own = Own(me, section, sign, rng, incarnation)
        self._table = Table(section)
        self._proofs = Proofs(section)
        self._intake = Intake(judge, self._own, self._table, self._proofs)
        self._detector = Detector(section, self._table, rng, facts)
        self._refutes = Bucket(_REFUTATIONS, _REFUTATION_S)
        self._links: dict[NodeId, Neighbour] = {}
        self._compare_at: float | None = None
        self._recent: dict[bytes, None] = {}
        self.rounds = 0
        self._counted = incarnation
        self._wakeup = inf

    @property
    def incarnation(self) -> int:
        """The incarnation in use: larger than the one given after a lost counter was found (`Counted`)."""
        return self._own.incarnation

    reasons = REASONS

    @property
    def counts(self) -> Counter[str]:
        """How many adverts of others were "news", and how many were not taken for each of `reasons`."""
        return self._intake.counts

    @property
    def suspected(self) -> frozenset[NodeId]:
        """Neighbours whose links give no sign of life: nothing new should be sent there."""
        return self._detector.suspected

    def adverts(self, now: float) -> Mapping[NodeId, Advert]:
        """A snapshot of every living node's advert, this node's included. O(nodes)."""
        return self._table.living(now)

    def advert(self, node: NodeId) -> Advert | None:
        """One living node's advert."""
        return self._table.advert(node)

    def next_wakeup(self) -> float | None:
        """When a Tick has something to do, on the clock of `handle`."""
        return self._wakeup if self._wakeup < inf else None

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event; returns what is to be done, frames in the order in which they should leave."""
        if now < self._wakeup and isinstance(event, Received) and self._is_echo(event):
            return []
        turn = _Turn(now)
        turn.changed.update(self._table.expire(now))
        self._detector.catch_up(now)
        match event:
            case Received(frm, data):
                self._received(frm, data, turn)
            case NeighbourUp(node):
                self._up(node, turn)
            case Heard(node):
                turn.commands += self._detector.heard(node, now)
            case NeighbourDown(node):
                self._links.pop(node, None)
                self._detector.down(node)
            case Describe(advert):
                lost = self._own.describe(advert, now)
                if lost is not None:
                    turn.commands.append(Trimmed(*lost))
            case Forget(node):
                if self._intake.forget(node):
                    turn.changed.add(node)
            case Reconsider():
                self._intake.unwanted.clear()
            case Leave():
                self._say(self._own.leave(), turn)
            case Tick():
                pass
        if self._own.incarnation != self._counted:
            self._counted = self._own.incarnation
            turn.commands.append(Counted(self._counted))
        self._say(self._own.advert(now), turn)
        self._compare_if_due(turn)
        if not self._silent():
            turn.commands += self._detector.tick(now)
        if turn.changed:
            turn.commands.append(Changed(frozenset(turn.changed)))
        self._wakeup = self._soonest()
        return turn.commands

    def _is_echo(self, event: Received) -> bool:
        """Whether this frame only says once more what another neighbour has just said: most frames do, since each
        advert comes over every link."""
        return event.data in self._recent and self._detector.at_ease(event.frm)

    def _soonest(self) -> float:
        own, table, probe = self._own.due, self._table.next_due(), self._detector.due
        soonest = inf if self._compare_at is None else self._compare_at
        if own is not None and own < soonest:
            soonest = own
        if table is not None and table < soonest:
            soonest = table
        if probe is not None and probe < soonest and not self._silent():
            soonest = probe
        return soonest

    def _say(self, made: tuple[Advert, SignedAdvert] | None, turn: _Turn) -> None:
        if made is not None:
            advert, signed = made
            if self._table.put(advert, signed, advert.lifetime_s, turn.now):
                turn.changed.add(self.me)
            for frame in advert_frames(carried([self._table.entry(self.me)], turn.now)):
                self._flood(frame, None, turn)

    def _flood(self, frame: bytes, frm: NodeId | None, turn: _Turn) -> None:
        turn.commands += [Send(node, frame) for node in self._links if node != frm]

    def _up(self, node: NodeId, turn: _Turn) -> None:
        """A new neighbour gets the table; where that is more than it can check at once, the rest by comparing."""
        if node == self.me:
            return
        self._links[node] = neighbour(self._section)
        turn.commands += self._detector.up(node, turn.now)
        if self._compare_at is None:
            # Nodes that started together should not compare together.
            self._compare_at = turn.now + self._section.anti_entropy_s * self._rng.random()
        if not self._silent():
            entries = self._table.spread()
            about = self._table.get(node)
            if about is not None and about.state is State.OVER:
                # Should it have lost its counter, this shows it how far it had counted.
                entries.append(about)
            if len(entries) > burst(self._section):
                turn.commands.append(self._digest(node))
            self._serve(node, entries, turn)

    def _silent(self) -> bool:
        """Before the first description and after leaving nothing is accepted and nothing told."""
        return self._own.mesh is None or self._own.left

    def _digest(self, node: NodeId) -> Send:
        return Send(node, encode_message(Digest(self._table.digests.packed())))

    def _serve(self, node: NodeId, entries: list[Entry], turn: _Turn) -> None:
        """Send what another lacks, within its budget; by lot where that is too small, so that what it refuses again
        and again does not stand before the rest."""
        served = self._links[node].served
        room = served.available(turn.now)
        if len(entries) > room:
            entries = self._rng.sample(entries, room)
        served.take(turn.now, len(entries))
        turn.commands += [Send(node, frame) for frame in advert_frames(carried(entries, turn.now))]

    def _compare_if_due(self, turn: _Turn) -> None:
        if self._compare_at is None or self._compare_at > turn.now:
            return
        self._compare_at = None
        if self._links and not self._own.left:
            self._compare_at = turn.now + self._section.anti_entropy_s * self._rng.uniform(0.9, 1.1)
            chosen = self._rng.choice([n for n, link in self._links.items() if link.starved] or list(self._links))
            self._links[chosen].starved = False
            turn.commands.append(self._digest(chosen))
            self.rounds += 1

    def _received(self, frm: NodeId, data: bytes, turn: _Turn) -> None:
        link = self._links.get(frm)
        if link is None or self._silent():
            return
        turn.commands += self._detector.heard(frm, turn.now)
        if data in self._recent:
            return
        try:
            message = decode_message(data)
        except DecodeError as error:
            turn.commands.append(Violation(frm, f"gossip frame: {error}"))
            return
        match message:
            case Adverts(items):
                self._adverts(frm, link, items, data, turn)
                if len(data) <= _RECENT_BYTES:
                    self._remember(data, items)
            case Probe():
                turn.commands += self._detector.probed(frm, message, turn.now)
            case Ack():
                turn.commands += self._detector.answered(frm, message, turn.now)
            case Digest(sums):
                if link.digests.take(turn.now):
                    lists = listing(self._table, self._table.digests.differing(sums))
                    turn.commands += [Send(frm, frame) for frame in version_frames(lists)]
            case Versions():
                self._versions(frm, link, message, turn)
            case Want(ids):
                found = (self._table.get(NodeId(id_)) for id_ in dict.fromkeys(ids))
                self._serve(frm, [entry for entry in found if entry is not None], turn)
            case ProbeFor():
                if link.favours.take(turn.now):
                    turn.commands += self._detector.asked_for(frm, message, turn.now)
            case AckFor():
                self._detector.answered_for(frm, message)
            case Suspect():
                if link.favours.take(turn.now):
                    self._suspect(frm, message, turn)
            case Proof():
                self._proof(frm, link, message, turn)

    def _suspect(self, frm: NodeId, message: Suspect, turn: _Turn) -> None:
        if message.node != self.me:
            turn.commands += self._detector.accused(frm, NodeId(message.node), turn.now)
            return
        turn.commands.append(self._detector.refute(frm))
        if (message.incarnation, message.sequence) >= self._own.order and self._refutes.take(turn.now):
            self._detector.health.worse()
            # Where the link to it is silent but others are not, a newer advert shows that this node lives.
            self._own.overtake(self._own.order, turn.now)

    def _versions(self, frm: NodeId, link: Neighbour, theirs: Versions, turn: _Turn) -> None:
        wanted, newer = compare(self._table, theirs, self._intake.unwanted)
        for conviction in [c for node in wanted if (c := self._proofs.held(node, turn.now)) is not None]:
            wanted.remove(conviction.node)
            self._show(frm, link, conviction, turn)
        room = min(link.checks.available(turn.now), MAX_WANTED)
        if len(wanted) > room:
            link.starved = True
            wanted = self._rng.sample(wanted, room)
        if wanted:
            turn.commands.append(Send(frm, encode_message(Want(tuple(wanted)))))
        self._serve(frm, newer, turn)

    def _adverts(self, frm: NodeId, link: Neighbour, items: tuple[Carried, ...], data: bytes, turn: _Turn) -> None:
        news: list[Entry] = []
        for item in items:
            try:
                taken = self._intake.take(link, item, turn.now)
            except (DecodeError, ProtocolViolation) as error:
                self._intake.counts["broken"] += 1
                turn.commands.append(Violation(frm, str(error)))
                break
            if taken.news is not None:
                news.append(taken.news)
                self._detector.vouched(taken.news.node)
            self._took(taken, frm, link, turn)
        if news:
            leaving = tuple(carried(news, turn.now))
            # What is passed on whole is passed on in the bytes it came in.
            for frame in [data] if leaving == items else advert_frames(leaving):
                self._flood(frame, frm, turn)

    def _took(self, taken: Taken, frm: NodeId, link: Neighbour, turn: _Turn) -> None:
        if taken.changed is not None:
            turn.changed.add(taken.changed)
        if taken.convicted is not None:
            turn.commands.append(Convicted(taken.convicted.node, taken.convicted.until))
            self._flood(taken.convicted.frame, frm, turn)
        if taken.lacks is not None:
            self._show(frm, link, taken.lacks, turn)

    def _proof(self, frm: NodeId, link: Neighbour, proof: Proof, turn: _Turn) -> None:
        try:
            self._took(self._intake.hear(link, proof, turn.now), frm, link, turn)
        except (DecodeError, ProtocolViolation) as error:
            turn.commands.append(Violation(frm, str(error)))

    def _show(self, frm: NodeId, link: Neighbour, conviction: Conviction, turn: _Turn) -> None:
        """Whoever still believes the convicted gets the proof: floods lose some, and links come late."""
        if frm != conviction.node and link.proofs.take(turn.now):
            turn.commands.append(Send(frm, conviction.frame))

    def _remember(self, data: bytes, items: tuple[Carried, ...]) -> None:
        """Remember a frame all of which was taken in: the same again would bring nothing."""
        held = (self._table.holder(item.signed.body) for item in items)
        if all(entry is not None and entry.state is not State.OVER for entry in held):
            self._recent[data] = None
            if len(self._recent) > _RECENT:
                del self._recent[next(iter(self._recent))]
