"""The invariants, and what is measured on the way. Knows the whole truth: who said what and when, who is up.

Each acceptance of an advert is checked where it happens: `Table.put` is wrapped while `watching` lasts. The rest is
looked at in samples (`sample`) and at the end. The first breach ends the run.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

from meshnode.gossip import intake
from meshnode.gossip.table import State, Table
from meshnode.model.advert import Advert, SignedAdvert
from meshnode.model.ids import NodeId
from tests.simulation.stand_ins import signature

if TYPE_CHECKING:
    from tests.simulation.node import SimNode
    from tests.simulation.world import World

FALSE_DEATH_S = 30.0
"""reliability.md: nobody alive is falsely dead for longer, at up to 30 % loss."""

IN_TRANSIT_S = 45.0
"""A frame may wait in a cut, at a frozen node, for so long; twice on its way."""

LOOK_S, LOOKED_FOR_S = 0.25, 90.0
"""How often, and how long, it is looked whether views are equal after a partition."""

SMALL, NOTICE_LOOK_S = 16, 0.05
"""In meshes so large, where all are linked to all, it is timed when a dead machine is missed, by looks so far apart."""

SLOWEST = 1.3
"""Clocks of the menu go wrong by a quarter."""


class Broken(Exception):
    """An invariant does not hold."""


@dataclass(slots=True)
class Probe:
    """A change whose spreading is timed."""

    node: NodeId
    name: str
    since: float
    missing: set[int]
    heard_at: float
    done_at: float | None = None


class Watch:
    """Told by nodes and jobs; `broken` raises."""

    def __init__(self, world: World, observers: int) -> None:
        self.world = world
        self.current: SimNode | None = None
        self.probes: list[Probe] = []
        self.log: deque[str] = deque(maxlen=200)
        self.violations: Counter[str] = Counter()
        self.unknown_commands: Counter[str] = Counter()
        self.proofs: dict[NodeId, dict[int, float]] = {}
        self.suspicions = 0
        self.longest_unseen_s = 0.0
        self.longest_unseen = ""
        self.healed_s: list[float | None] = []
        """How long after each partition everybody knew what was said before its end."""
        self.missed_s: list[float] = []
        """How long after a machine died without a word each other node had no way to it any more, in small meshes."""
        self._observers = observers
        self._made: dict[NodeId, list[tuple[float, tuple[int, int]]]] = {}
        self._ended: dict[tuple[int, int], dict[NodeId, tuple[int, int]]] = {}
        self._unseen: dict[tuple[int, int], float] = {}
        self._lifetime: dict[bytes, tuple[float, int]] = {}

    # What is told.

    def tell(self, text: str) -> None:
        """A line of the trace."""
        self.log.append(f"{self.world.loop.now:9.3f} {text}")

    def broken(self, text: str) -> None:
        """An invariant does not hold."""
        raise Broken(f"{self.world.loop.now:.3f}: {text}")

    def born(self, node: SimNode) -> None:
        """A node begins a life: it remembers nothing."""
        self._ended[node.number, node.life] = {}

    def made(self, node: SimNode, body: bytes) -> None:
        """A node signs an advert."""
        advert = intake.unpack(body)
        self._made.setdefault(node.id, []).append((self.world.loop.now, advert.order))
        self._lifetime[body] = (self.world.loop.now, advert.lifetime_s)

    def violation(self, node: SimNode, frm: NodeId, reason: str) -> None:
        """A node blames its neighbour, which may only be right."""
        self.violations[reason] += 1
        self.tell(f"n{node.number} blames n{self.world.number(frm)}: {reason}")
        if all(other.honest for other in self.world.nodes if other.id == frm):
            self.broken(f"n{node.number} blames the honest n{self.world.number(frm)}: {reason}")

    def suspected(self, node: SimNode, peer: NodeId) -> None:
        """A node finds its neighbour silent."""
        self.suspicions += 1
        self.tell(f"n{node.number} suspects n{self.world.number(peer)}")

    def convicted(self, node: SimNode, culprit: NodeId) -> None:
        """A node puts another aside, which signed two adverts of one order."""
        self.proofs.setdefault(culprit, {}).setdefault(node.number, self.world.loop.now)
        self.tell(f"n{node.number} convicts n{self.world.number(culprit)}")
        if all(other.honest for other in self.world.nodes if other.id == culprit):
            self.broken(f"n{node.number} convicts the honest n{self.world.number(culprit)}")

    def unknown(self, command: Any) -> None:
        """A command that the simulator does not perform: counted and printed."""
        self.unknown_commands[type(command).__name__] += 1

    def probe(self, node: SimNode, name: str) -> None:
        """`node` has just said `name` of itself."""
        missing = {other.number for other in self.world.judges() if other is not node}
        self.probes.append(Probe(node.id, name, self.world.loop.now, missing, self.world.loop.now))

    def changed(self, node: SimNode, ids: Iterable[NodeId]) -> None:
        """A node's view changed: nobody it knew to be over comes back without having said something new."""
        if self.world.met is not None:
            self.world.met[node].update(ids)
        table, ended = node.gossip._table, self._ended[node.number, node.life]
        for culprit in ids:
            entry = table.get(culprit)
            if entry is None:
                ended.setdefault(culprit, (0, 0))
            elif entry.state is not State.LIVING:
                # Heard of as over only: a copy with time left may still come.
                unlived = entry.latest > node.clock()
                ended[culprit] = (entry.order[0], entry.order[1] - unlived)
            elif culprit in ended and entry.order <= ended.pop(culprit) and node.honest:
                self.broken(f"n{node.number} resurrected n{self.world.number(culprit)} at {entry.order}")
        for probe in self.probes:
            if probe.done_at is None and probe.node in ids and node.number in probe.missing:
                self._heard(probe, node, table)

    def _heard(self, probe: Probe, node: SimNode, table: Table) -> None:
        advert = table._living.get(probe.node)
        if advert is not None and advert.name == probe.name:
            probe.missing.discard(node.number)
            probe.heard_at = self.world.loop.now
            if not probe.missing:
                probe.done_at = probe.heard_at

    # What is checked at every acceptance.

    def accepting(self, table: Table, advert: Advert, signed: SignedAdvert, left_s: float) -> None:
        """`current` is about to believe an advert."""
        node = self.current
        if node is None or not node.honest or advert.id == node.id:
            return
        if signature(advert.id, signed.body) != signed.signature:
            self._accepted(node, advert, "badly signed")
        known = table.get(advert.id)  # type: ignore[arg-type]  # ids hash as their bytes
        if known is not None and advert.order <= known.order:
            again = advert.order == known.order and known.state is State.OVER
            if not again:
                self._accepted(node, advert, f"after {known.order}")
        made = self._lifetime.get(signed.body)
        if made is not None and left_s > 0 and not self.world.replayed:
            age_s = self.world.loop.now - made[0]
            if age_s > made[1] * SLOWEST + IN_TRANSIT_S:
                self._accepted(node, advert, f"{age_s:.0f} s old, that was to live for {made[1]} s")

    def _accepted(self, node: SimNode, advert: Advert, what: str) -> None:
        who = self.world.number(advert.node)
        self.broken(f"n{node.number} accepted an advert of n{who} at {advert.order}, {what}")

    # What is looked at now and then.

    def sample(self, since_s: float) -> None:
        """Who cannot be seen though alive and connected; who is seen though long dead; how large tables are."""
        now, groups = self.world.loop.now, self.world.groups()
        seen: dict[tuple[int, int], float] = {}
        for node in self.world.judges()[: self._observers]:
            tree = node.router.known.paths.tree(node.view())
            adverts = node.view().adverts
            for other in groups.get(node.number, ()):
                if other is node or (other.id in adverts and tree.cheapest(other.id) is not None):
                    continue
                pair = (node.number, other.number)
                seen[pair] = since = self._unseen.get(pair, now - since_s)
                self._unseen_for(pair, now - since, other.id in adverts)
            self._bounds(node)
        self._unseen = seen
        self._dead()
        self.settle_probes()

    def settle_probes(self) -> None:
        """Who is gone, or is no more looked at, need not hear of a change."""
        judges = {node.number for node in self.world.judges()}
        self.probes = [probe for probe in self.probes if probe.done_at is not None or self._stands(probe)]
        for probe in self.probes:
            probe.missing &= judges
            if probe.done_at is None and not probe.missing:
                probe.done_at = probe.heard_at

    def _stands(self, probe: Probe) -> bool:
        """Whether it is still to be heard: not of a node that has left, says something else or was put aside by all."""
        node = self.world.nodes[self.world.number(probe.node)]
        return not node.left and node.described.name == probe.name and probe.node not in self.world.outcast

    def _unseen_for(self, pair: tuple[int, int], seconds: float, known: bool) -> None:
        if seconds > self.longest_unseen_s:
            self.longest_unseen_s = seconds
            self.longest_unseen = f"n{pair[1]} at n{pair[0]}" + (", known but without a path" if known else "")
        if seconds > FALSE_DEATH_S:
            why = "knows no path to it" if known else "has no advert of it"
            self.broken(f"n{pair[1]} is alive and connected, and n{pair[0]} {why} for {seconds:.0f} s")

    def _dead(self) -> None:
        """Nobody is believed alive that has been dead for a lifetime."""
        if self.world.replayed:
            return
        longest_s = self.world.gossip_section.lifetime_s * SLOWEST + 2 * IN_TRANSIT_S
        for dead, since in self.world.dead.items():
            if self.world.loop.now - since > longest_s:
                for node in self.world.judges():
                    if dead in node.gossip.adverts(node.clock()):
                        self.broken(f"n{node.number} believes n{self.world.number(dead)}, dead since {since:.0f}")

    def _bounds(self, node: SimNode) -> None:
        table, section = node.gossip._table, node.world.gossip_section
        sizes = {
            "adverts": (len(table._entries), 2 * section.nodes),
            "bodies": (len(table._by_body), 2 * section.nodes),
            "unwanted": (len(node.gossip._intake.unwanted), intake.MAX_UNWANTED),
            "jobs seen": (len(node.seen), node.seen.limit),
            "measurements": (len(node.router.known.measurements), 4096),
            "breakers": (len(node.router.known.breakers), 4096),
        }
        for what, (size, most) in sizes.items():
            if size > most:
                self.broken(f"n{node.number} holds {size} {what}, {most} are the most")

    # What is looked at after the faults.

    def behind(self, older_than_s: float) -> str:
        """A node that has not heard what another, connected to it, said so long ago; "" for none."""
        limit = self.world.loop.now - older_than_s
        groups = self.world.groups()
        said = {node.id: self._order_at(node.id, limit) for node in self.world.judges()}
        alike: set[tuple[int, bytes]] = set()
        for node in self.world.judges():
            # Equal sums of equal groups: it holds what one of them does that was looked at.
            held = (groups[node.number][0].number, node.gossip._table.digests.packed())
            if held in alike:
                continue
            alike.add(held)
            for other in groups[node.number]:
                entry = node.gossip._table.get(other.id)
                order = said[other.id]
                if order is not None and (entry is None or entry.order < order or entry.state is not State.LIVING):
                    has = entry.order if entry is not None else None
                    return f"n{node.number} has {has} of n{other.number}, which said {order}"
        return ""

    def undetected(self, since_s: float) -> str:
        """Two nodes that have run with one key for so long, and a node connected to both that does not know it; "" for
        none. Their links may be young: each ends the other's."""
        limit, groups = self.world.loop.now - since_s, self.world.groups()
        for twins in self.world.twins:
            near = [self._near(twin, groups, limit) for twin in twins]
            if not all(near) or near[0][0] is not near[1][0]:
                continue
            told = self.proofs.get(twins[0].id, {})
            for node in near[0]:
                if node.number not in told:
                    return f"n{node.number} does not know that n{twins[0].number} and n{twins[1].number} share a key"
        return ""

    def _near(self, node: SimNode, groups: dict[int, list[SimNode]], limit: float) -> list[SimNode]:
        """Judges connected with one of its neighbours; none where it did not run all the time."""
        if not node.up or node.frozen or node.left or node.started > limit:
            return []
        near = (wire.peer(node).number for wire in node.links.values())
        return next((groups[number] for number in near if number in groups), [])

    def healing(self) -> None:
        """A partition has just ended."""
        self.healed_s.append(None)
        self._look(len(self.healed_s) - 1, self.world.loop.now)

    def _look(self, which: int, since: float) -> None:
        ago_s = self.world.loop.now - since
        if self.world.whole() and not self.behind(ago_s):
            self.healed_s[which] = ago_s
            self.tell(f"everybody knows what was said before {since:.3f}")
        elif ago_s < LOOKED_FOR_S:
            self.world.loop.after(LOOK_S, self._look, which, since)

    def died(self, node: SimNode) -> None:
        """A machine is gone and has said nothing."""
        if len(self.world.nodes) <= SMALL:
            others = {other.number for other in self.world.judges() if self._reaches(other, node)}
            self._miss(node, node.life, self.world.loop.now, others)

    def _miss(self, dead: SimNode, life: int, since: float, others: set[int]) -> None:
        """See which of those that believed in it do so no more."""
        if dead.up or dead.life != life:
            return
        for node in self.world.judges():
            if node.number in others and not self._reaches(node, dead):
                others.discard(node.number)
                self.missed_s.append(self.world.loop.now - since)
        if others:
            self.world.loop.after(NOTICE_LOOK_S, self._miss, dead, life, since, others)

    def _reaches(self, node: SimNode, other: SimNode) -> bool:
        return (
            other.id in node.view().adverts and node.router.known.paths.tree(node.view()).cheapest(other.id) is not None
        )

    def _order_at(self, node: NodeId, limit: float) -> tuple[int, int] | None:
        """The newest order that `node` made before `limit` in a life that goes on."""
        made = [order for at, order in self._made.get(node, ()) if at <= limit]
        return made[-1] if made else None


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """While this lasts, every advert that any table takes in is checked."""
    put = Table.put

    def watched(self: Table, advert: Advert, signed: SignedAdvert, left_s: float, now: float) -> bool:
        watch.accepting(self, advert, signed, left_s)
        return put(self, advert, signed, left_s, now)

    with mock.patch.object(Table, "put", watched):
        yield
