"""Which neighbours live: SWIM (Das, Gupta, Motivala 2002) among neighbours, with Lifeguard (Dadgar et al. 2018).

Part of the gossip machine: told of frames and of time, it returns commands. Not for links that end by themselves (net)
nor for closing them (mesh). What it costs and how soon it finds out: `Detector`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import inf

from meshnode.config.gossip import GossipSection
from meshnode.gossip.events import Cleared, Command, Dead, Reported, Send, Suspected
from meshnode.gossip.facts import Facts
from meshnode.gossip.health import LocalHealth
from meshnode.gossip.messages import Ack, AckFor, Probe, ProbeFor, Suspect, encode_message
from meshnode.gossip.suspicion import lasts_s, longest_s
from meshnode.gossip.table import Table
from meshnode.gossip.watch import Phase, Watch
from meshnode.model.ids import NodeId

_TOGETHER = 0.1
"""Probes due within this share of a period leave together: one wakeup, one encoding."""

_LATE_S = 0.1
"""Whoever runs later than this was stopped: that time is held against nobody. A busy event loop is late by less."""

_MOST_TOLD = 8
"""Others told of a suspicion: more than can confirm it to any effect."""


class Detector:
    """Watches every neighbour. `facts()` is this node's load now. Commands stand in the order to perform them in.

    Each link carries one probe and one answer per period: a probe that comes is worth as much as an answer, so its ends
    do not both ask. With 20 bytes of CBOR, 32 of h2 and Noise, and TCP's own, that is some 130 bytes a second from each
    end of a link: 1.2 kB/s with nine neighbours.
    One neighbour per period, as SWIM does among thousands, would leave 3.6 s (p99) until one of nine looks. Here a
    frozen neighbour is asked within 1 s, suspected 1 s later, and dead 2 s (three others agree) to 4 s after that:
    within 6 s on a LAN of ten, unless this node has reason to doubt itself.
    """

    def __init__(
        self, section: GossipSection, table: Table, rng: random.Random, facts: Callable[[], Facts | None]
    ) -> None:
        self.health = LocalHealth()
        self.due: float | None = None
        """When `tick` has something to do."""
        self._section = section
        self._table = table
        self._rng = rng
        self._facts = facts
        self._watches: dict[NodeId, Watch] = {}
        self._number = 0
        self._probed_at = -inf
        self._frame = b""

    @property
    def suspected(self) -> frozenset[NodeId]:
        """Neighbours that are suspected now, or dead and not yet unlinked."""
        return frozenset(n for n, watch in self._watches.items() if watch.doubted)

    def up(self, node: NodeId, now: float) -> list[Command]:
        """A link to `node` is there, perhaps in the place of another."""
        old = self._watches.get(node)
        watch = self._watches[node] = Watch(node, now + self._section.probe_s * self._rng.random())
        self._plan(watch)
        return [Cleared(node)] if old is not None and old.doubted else []

    def down(self, node: NodeId) -> None:
        """The link to `node` is gone, and with it whatever was thought of it."""
        self._watches.pop(node, None)

    def catch_up(self, now: float) -> None:
        """To be called before anything else of this moment. Time in which this process did not run is nobody's
        silence: what others said meanwhile is still to be read."""
        late = now - self.due if self.due is not None else 0.0
        if self.due is None or late <= _LATE_S:
            return
        if late > self._section.probe_timeout_s:
            self.health.worse()
        self.due += late
        for watch in self._watches.values():
            watch.at += late
            watch.asked_at += late
            watch.suspected_at += late

    def tick(self, now: float) -> list[Command]:
        """Do what is due. O(neighbours)."""
        commands: list[Command] = []
        if self.due is None or self.due > now:
            return commands
        soon = now + _TOGETHER * self._section.probe_s
        for watch in self._watches.values():
            if watch.at <= now or (watch.phase is Phase.QUIET and watch.at <= soon):
                commands += self._next(watch, now)
        at = min((watch.at for watch in self._watches.values()), default=inf)
        self.due = at if at < inf else None
        return commands

    def at_ease(self, node: NodeId) -> bool:
        """Whether a word of the neighbour `node` would change nothing here."""
        watch = self._watches.get(node)
        return watch is not None and watch.phase is Phase.QUIET and not watch.favours and not watch.accusers

    def heard(self, node: NodeId, now: float) -> Sequence[Command]:
        """The neighbour `node` spoke: whatever it said, it lives, and so does its link."""
        watch = self._watches.get(node)
        if watch is None:
            return ()
        commands: list[Command] = []
        if watch.favours:
            for asker, number in watch.favours.items():
                if asker in self._watches:
                    commands.append(Send(asker, encode_message(AckFor(node, number))))
            watch.favours.clear()
        watch.accusers.clear()
        if watch.phase is not Phase.QUIET:
            if watch.doubted:
                commands.append(Cleared(node))
            watch.phase, watch.vouched, watch.suspected_at = Phase.QUIET, False, inf
            watch.at = max(now, watch.asked_at) + self._period_s(watch)
            self._plan(watch)
        return commands

    def probed(self, frm: NodeId, probe: Probe, now: float) -> list[Command]:
        """`frm` asks whether this node lives; that it asks is worth an answer to a probe of this node."""
        self._met(self._watches[frm], now)
        answer: Command = Send(frm, encode_message(Ack(probe.number, self._facts())))
        return [answer] if probe.facts is None else [answer, Reported(frm, probe.facts)]

    def answered(self, frm: NodeId, ack: Ack, now: float) -> list[Command]:
        """`frm` answers a probe; `heard` has been told."""
        watch = self._watches[frm]
        if ack.number == watch.number:
            watch.number = None
            watch.trips.append(now - watch.asked_at)
            self.health.better()
            self._met(watch, now)
        return [] if ack.facts is None else [Reported(frm, ack.facts)]

    def asked_for(self, frm: NodeId, ask: ProbeFor, now: float) -> list[Command]:
        """`frm` wants to know whether this node reaches another."""
        watch = self._watches.get(NodeId(ask.node))
        if watch is None or watch.node == frm:
            return []
        watch.favours[frm] = ask.number
        return self._look(watch, now)

    def answered_for(self, frm: NodeId, ack: AckFor) -> None:
        """`frm` reaches a node that it was asked to try."""
        watch = self._watches.get(NodeId(ack.node))
        if watch is not None and frm in watch.helpers and ack.number == watch.around:
            self.vouched(watch.node)

    def vouched(self, node: NodeId) -> None:
        """`node` lives, though its link to this node may not."""
        watch = self._watches.get(node)
        if watch is not None and watch.phase in (Phase.AROUND, Phase.SUSPECTED):
            watch.vouched = True

    def accused(self, frm: NodeId, node: NodeId, now: float) -> list[Command]:
        """`frm` finds `node` silent: look for oneself, at once."""
        watch = self._watches.get(node)
        if watch is None or node == frm:
            return []
        watch.accusers.add(frm)
        if watch.phase is Phase.SUSPECTED:
            return self._judge(watch, now)
        return self._look(watch, now)

    def refute(self, frm: NodeId) -> Command:
        """`frm` finds this very node silent: a word to it, whatever the word, ends that."""
        return Send(frm, encode_message(Ack(0, self._facts())))

    def _next(self, watch: Watch, now: float) -> list[Command]:
        match watch.phase:
            case Phase.QUIET:
                return self._ask(watch, now)
            case Phase.ASKED:
                return self._ask_around(watch, now)
            case Phase.AROUND:
                return self._suspect(watch, now)
            case Phase.SUSPECTED:
                return self._judge(watch, now)
            case Phase.DEAD:
                watch.at = inf
        return []

    def _look(self, watch: Watch, now: float) -> list[Command]:
        if watch.phase is not Phase.QUIET:
            return []
        commands = self._ask(watch, now)
        self._plan(watch)
        return commands

    def _ask(self, watch: Watch, now: float) -> list[Command]:
        watch.phase, watch.asked_at = Phase.ASKED, now
        watch.at = now + watch.timeout_s(self._section) * self.health.factor
        return [self._probe(watch, now)]

    def _probe(self, watch: Watch, now: float) -> Command:
        """Probes of one moment share their number and their bytes."""
        if now != self._probed_at:
            self._probed_at, self._number = now, (self._number + 1) % 2**32
            self._frame = encode_message(Probe(self._number, self._facts()))
        watch.number = self._number
        return Send(watch.node, self._frame)

    def _ask_around(self, watch: Watch, now: float) -> list[Command]:
        watch.phase, watch.around = Phase.AROUND, self._number
        watch.witnesses = frozenset(self._witnesses(watch.node))
        chosen = self._sample(watch.witnesses, self._section.helpers)
        watch.helpers = frozenset(chosen)
        timeout_s = watch.timeout_s(self._section)
        # The rest of the period, as in SWIM §4.1.
        watch.at = now + max(watch.period_s(self._section) - timeout_s, timeout_s / 2) * self.health.factor
        frame = encode_message(ProbeFor(watch.node, watch.around)) if chosen else b""
        return [Send(helper, frame) for helper in chosen]

    def _suspect(self, watch: Watch, now: float) -> list[Command]:
        """The suspect is told first (Lifeguard's buddy system), then those who can look for themselves; nobody when
        some other reaches it, for then only this link is in doubt."""
        if watch.vouched or self.suspected:
            # One silent neighbour is one silent neighbour; two at once, or one that others reach, may be this node.
            self.health.worse()
        watch.phase, watch.suspected_at, watch.at = Phase.SUSPECTED, now, now + watch.period_s(self._section)
        commands: list[Command] = [Suspected(watch.node)]
        if not watch.vouched:
            known = self._table.get(watch.node)
            frame = encode_message(Suspect(watch.node, *(known.order if known is not None else (0, 0))))
            told = [watch.node, *self._sample(watch.witnesses, _MOST_TOLD)]
            commands += [Send(node, frame) for node in told]
        return commands + self._judge(watch, now)

    def _judge(self, watch: Watch, now: float) -> list[Command]:
        """End the suspicion when its time is over; until then ask again each period."""
        confirmed = len(watch.accusers & watch.witnesses)
        until = watch.suspected_at + self._lasts_s(watch, confirmed)
        if now >= until:
            watch.phase, watch.at = Phase.DEAD, inf
            silent_s = now - watch.asked_at
            others = "though others reach it" if watch.vouched else f"{confirmed} others say so too"
            return [Dead(watch.node, f"no answer for {silent_s:.1f} s, {others}")]
        commands = [self._probe(watch, now)] if watch.at <= now else []
        watch.at = min(until, now + watch.period_s(self._section))
        self._plan(watch)
        return commands

    def _lasts_s(self, watch: Watch, confirmed: int) -> float:
        if watch.vouched:
            return self._section.silent_s
        longest = longest_s(self._section.suspicion_periods, watch.period_s(self._section), self._table.count)
        return self.health.factor * lasts_s(longest, confirmed, len(watch.witnesses))

    def _met(self, watch: Watch, now: float) -> None:
        """A probe was exchanged, whoever asked: the next one is a period away."""
        watch.at = now + self._period_s(watch) * self._rng.uniform(0.8, 1.0)
        self._plan(watch)

    def _plan(self, watch: Watch) -> None:
        if watch.at < inf:
            self.due = watch.at if self.due is None else min(self.due, watch.at)

    def _witnesses(self, node: NodeId) -> list[NodeId]:
        """Neighbours of this node that say they are linked to `node`."""
        adverts = ((other, self._table.advert(other)) for other in self._watches if other != node)
        return [o for o, advert in adverts if advert is not None and any(n.id == node for n in advert.neighbours)]

    def _sample(self, of: frozenset[NodeId], most: int) -> list[NodeId]:
        still = [node for node in self._watches if node in of]
        return self._rng.sample(still, min(most, len(still)))

    def _period_s(self, watch: Watch) -> float:
        return watch.period_s(self._section) * max(1.0, len(self._watches) / self._section.probed)
