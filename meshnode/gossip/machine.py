"""The gossip machine: floods new adverts at once, compares tables with one neighbour at a time (rounds.py), and
watches whether neighbours live (detector.py).

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
from meshnode.gossip.echoes import Echoes
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
from meshnode.gossip.exchange import carried
from meshnode.gossip.facts import Facts
from meshnode.gossip.intake import REASONS, Intake, Taken
from meshnode.gossip.messages import (
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
)
from meshnode.gossip.neighbour import Neighbour
from meshnode.gossip.own import Own
from meshnode.gossip.proofs import Proofs
from meshnode.gossip.rounds import Rounds
from meshnode.gossip.table import Entry, Table
from meshnode.model.advert import Advert, SignedAdvert
from meshnode.model.ids import NodeId


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
        self._echoes = Echoes(self._table)
        self._rounds = Rounds(section, self._table, self._proofs, self._intake.unwanted, rng)
        self._links = self._rounds.links
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
    def rounds(self) -> int:
        """Rounds of anti-entropy that this node has begun."""
        return self._rounds.begun

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
                self._rounds.down(node)
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
        turn.commands += self._rounds.begin(now, left=self._own.left)
        if not self._silent():
            turn.commands += self._detector.tick(now)
        if turn.changed:
            turn.commands.append(Changed(frozenset(turn.changed)))
        self._wakeup = self._soonest()
        return turn.commands

    def _is_echo(self, event: Received) -> bool:
        """Whether this frame only says once more what another neighbour has just said: most frames do, since each
        advert comes over every link."""
        return event.data in self._echoes and self._detector.at_ease(event.frm)

    def _soonest(self) -> float:
        own, table, probe = self._own.due, self._table.next_due(), self._detector.due
        soonest = inf if self._rounds.due is None else self._rounds.due
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
        if node == self.me:
            return
        turn.commands += self._detector.up(node, turn.now)
        self._rounds.up(node, turn.now)
        if not self._silent():
            turn.commands += self._rounds.greet(node, turn.now)

    def _silent(self) -> bool:
        """Before the first description and after leaving nothing is accepted and nothing told."""
        return self._own.mesh is None or self._own.left

    def _received(self, frm: NodeId, data: bytes, turn: _Turn) -> None:
        link = self._links.get(frm)
        if link is None or self._silent():
            return
        turn.commands += self._detector.heard(frm, turn.now)
        if data in self._echoes:
            return
        try:
            message = decode_message(data)
        except DecodeError as error:
            turn.commands.append(Violation(frm, f"gossip frame: {error}"))
            return
        match message:
            case Adverts(items):
                self._adverts(frm, link, items, data, turn)
                self._echoes.remember(data, items)
            case Probe():
                turn.commands += self._detector.probed(frm, message, turn.now)
            case Ack():
                turn.commands += self._detector.answered(frm, message, turn.now)
            case Digest(sums):
                turn.commands += self._rounds.compared(frm, sums, turn.now)
            case Versions():
                turn.commands += self._rounds.listed(frm, message, turn.now)
            case Want(ids):
                turn.commands += self._rounds.wanted(frm, ids, turn.now)
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
        if self._own.refute((message.incarnation, message.sequence), turn.now):
            self._detector.health.worse()

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
            self._took(taken, frm, turn)
        if news:
            leaving = tuple(carried(news, turn.now))
            # What is passed on whole is passed on in the bytes it came in.
            for frame in [data] if leaving == items else advert_frames(leaving):
                self._flood(frame, frm, turn)

    def _took(self, taken: Taken, frm: NodeId, turn: _Turn) -> None:
        if taken.changed is not None:
            turn.changed.add(taken.changed)
        if taken.convicted is not None:
            turn.commands.append(Convicted(taken.convicted.node, taken.convicted.until))
            # Of this node itself the proof may be made here: who brought one half of it lacks the other.
            told = frm if taken.convicted.node != self.me else None
            self._flood(taken.convicted.frame, told, turn)
        if taken.lacks is not None:
            turn.commands += self._rounds.show(frm, taken.lacks, turn.now)

    def _proof(self, frm: NodeId, link: Neighbour, proof: Proof, turn: _Turn) -> None:
        try:
            self._took(self._intake.hear(link, proof, turn.now), frm, turn)
        except (DecodeError, ProtocolViolation) as error:
            turn.commands.append(Violation(frm, str(error)))
