"""All nodes, the network between them and what befalls them. Not for the menu of faults (faults.py) nor for reports."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import msgspec

from meshnode.config.gossip import GossipSection
from meshnode.config.mesh import MeshSection
from meshnode.gossip import Leave, Tick
from meshnode.gossip.overlay_events import Asked, Changed, Known
from meshnode.gossip.table import Table
from meshnode.model.advert import Advert, ModelOffer, SignedAdvert
from meshnode.model.ids import NodeId
from tests.simulation import byzantine
from tests.simulation.common_tables import Common, Layered
from tests.simulation.faults import BYZANTINE, Fault
from tests.simulation.jobs import Jobs
from tests.simulation.loop import Loop
from tests.simulation.network import Network
from tests.simulation.node import SimNode, address_of
from tests.simulation.stand_ins import MESH
from tests.simulation.watch import Watch

MODELS = ("m0", "m1", "m2", "m3")

PATIENT = 1 / 3
"""Share of the jobs."""

LARGE = 200
"""Above it fewer nodes are looked at in samples, and more rarely; all clocks agree at the start, so that what all know
can be kept once (common_tables.py); and overlays are told of a sample of the others, out of which they draw theirs."""

TOLD = 128
"""That sample: two passive views."""


CHOOSING_S = 10.0
"""In so long overlays that know everybody have chosen whom to be linked to."""


class World:
    """`count` nodes. Each but the first has the address of one that came before it; the rest is the overlay's."""

    def __init__(self, seed: int, count: int, gossip: GossipSection, mesh: MeshSection) -> None:
        self.seed = seed
        self.rng = random.Random(f"world {seed}")
        self.loop = Loop()
        self.gossip_section, self.mesh_section = gossip, mesh
        self.large = count > LARGE
        self.clocks_apart_s = 0.0 if self.large else 17.0
        self.settled_s = 0.02 if count <= LARGE else 0.05
        self.network = Network(self.loop, seed, mesh.ping_s, mesh.ping_misses)
        self.watch = Watch(self, 6 if count <= LARGE else 2)
        self.jobs = Jobs(self, seed)
        self.black_holes: set[SimNode] = set()
        self.liars: set[SimNode] = set()
        self.dead: dict[NodeId, float] = {}
        self.outcast: set[NodeId] = set()
        """Those whose key is used twice, or was: what others think of them is not looked at."""
        self.twins: list[tuple[SimNode, SimNode]] = []
        """Two nodes that run with one key."""
        self.replayed = False
        self.met: dict[SimNode, set[NodeId]] | None = None
        """Whom each node heard of since it started, where nodes start as strangers and find each other."""
        self.nodes: list[SimNode] = []
        self._number: dict[NodeId, int] = {}
        for number in range(count):
            self.add(number, (address_of(self.rng.randrange(number)),) if number else ())
        self._pin()

    def add(self, key: int, peers: tuple[str, ...]) -> SimNode:
        """One more node, which bears the `key`th key."""
        node = SimNode(self, len(self.nodes), key, replace(self.mesh_section, peers=peers))
        node.engines = self._engines()
        self.nodes.append(node)
        self._number.setdefault(node.id, node.number)
        self.network.by_address[address_of(node.number)] = node
        return node

    def _engines(self) -> tuple[ModelOffer, ...]:
        names = self.rng.sample(MODELS, self.rng.choice((0, 1, 1, 2)))
        return tuple(ModelOffer(name, 8192, self.rng.randint(1, 4)) for name in sorted(names))

    def described(self, node: SimNode, name: str = "") -> Advert:
        """What a node says of itself at its start."""
        cost = 0 if node in self.liars else 1_000_000
        engines = node.engines
        if node in self.liars:
            engines = tuple(msgspec.structs.replace(offer, slots=64) for offer in engines)
        return Advert(
            node.id,
            MESH,
            0,
            0,
            1,
            name=name or f"n{node.number}",
            version="0.0.0",
            host=node.host,
            addresses=(address_of(node.number),),
            models=engines,
            price_micro_per_mtok=cost,
        )

    def _pin(self) -> None:
        """Every node pins half of the others, as people do with machines that they know; where there are very many, all
        pin the same half."""
        rng, many = random.Random(f"pins {self.seed}"), len(self.nodes) > LARGE
        ids = sorted({node.id for node in self.nodes})
        pinned = frozenset(rng.sample(ids, len(ids) // 2))
        for node in self.nodes:
            node.pinned = pinned if many else frozenset(rng.sample(ids, len(ids) // 2))

    def boot(self, node: SimNode, *, forgotten: bool = False) -> None:
        """Start a node's next life."""
        self.dead.pop(node.id, None)
        if self.met is not None:
            # Addresses that it was given count as heard of: it dials them for ever.
            given = {self.network.by_address[address].id for address in node.section.peers}
            self.met[node] = given
        node.start(self.described(node), forgotten=forgotten)
        node.speak()
        node.overlay_event(Known(node.gossip.adverts(node.clock())))
        self.network.reassess()

    def boot_one_by_one(self, within_s: float) -> None:
        """Start every node within the first seconds, each to find the others by itself."""
        self.met = {}
        for node in self.nodes:
            self.loop.at(self.rng.uniform(0.0, within_s), self.boot, node)

    def boot_linked(self, *, muted: bool) -> None:
        """Start every node with the links that its overlay wants open already, so that each describes itself once. The
        time before, in which they were chosen, is below zero. `muted`: nobody hears the descriptions yet."""
        self.loop.now = -CHOOSING_S
        said = {node.id: self.described(node) for node in self.nodes}
        for node in self.nodes:
            node.start(said[node.id])
        self.network.muted = True
        for node in self.nodes:
            node.overlay_event(Known(self._told(node, said)))
        self.loop.run(0.0)
        self.network.muted = muted
        for node in self.nodes:
            node.speak()
        self.network.muted = False

    def _told(self, node: SimNode, said: dict[NodeId, Advert]) -> dict[NodeId, Advert]:
        if len(said) <= LARGE:
            return said
        some = self.rng.sample(self.nodes, TOLD)
        return {other.id: said[other.id] for other in (node, *some)}

    def acquaint(self, *, steady: bool) -> None:
        """Let everybody know everybody, as after a long time together, which floods would take minutes to do.

        The one place that writes into machines. `steady`: renewals are spread over time, as they are in the long run;
        else everybody has just said what it says.
        """
        lifetime_s, refresh_s = self.gossip_section.lifetime_s, self.gossip_section.refresh_s
        said = []
        for node in self.nodes:
            age_s = self.rng.uniform(0.0, refresh_s) if steady else 0.0
            entry = node.gossip._table.entry(node.id)
            said.append((node, entry.signed, lifetime_s - age_s))
            node.gossip._own.due = node.clock() + refresh_s - age_s if steady else node.gossip._own.due
            node.gossip_event(Tick())
        adverts = {node.id: node.gossip._table._living[node.id] for node in self.nodes}
        if len(self.nodes) > LARGE:
            self._acquaint_at_once(adverts, said)
            return
        for node in self.nodes:
            now, put = node.clock(), node.gossip._table.put
            for other, signed, left_s in said:
                if other is not node:
                    put(adverts[other.id], signed, left_s, now)
            node.acquainted()
            node.overlay_event(Known(adverts))

    def _acquaint_at_once(self, adverts: dict[NodeId, Advert], said: list[tuple[SimNode, SignedAdvert, float]]) -> None:
        """All clocks agree: what everybody knows is put into one table, over which each node has its own."""
        table, now = Table(self.gossip_section), self.nodes[0].clock()
        self.watch.current = None
        for node, signed, left_s in said:
            table.put(adverts[node.id], signed, left_s, now)
        common = Common(table)
        for node in self.nodes:
            node.gossip._table.adopt(common)  # type: ignore[attr-defined]  # see stand_ins.shared
            dialled = [key for key in node.overlay._book.targets if isinstance(key, NodeId)]
            node.overlay_event(Changed({peer: adverts[peer] for peer in dialled}))
            node.overlay._book.adverts = Layered(adverts)  # type: ignore[assignment]
            node.acquainted()
            node.gossip_event(Tick())

    # Who is who.

    def number(self, node: NodeId) -> int:
        """The number of the first node that bears this id; -1 for an invented one."""
        return self._number.get(node, -1)

    def judges(self) -> list[SimNode]:
        """Those whose views count: honest, running, the only ones of their key."""
        return [n for n in self.nodes if n.up and n.honest and not n.frozen and not n.left and n.id not in self.outcast]

    def groups(self) -> dict[int, list[SimNode]]:
        """For every judge, those it is connected with over judges, itself included."""
        judges = dict.fromkeys(self.judges())
        near: dict[SimNode, list[SimNode]] = {node: [] for node in judges}
        for wire in self.network.wires:
            a, b = wire.ends
            if wire.whole and a in judges and b in judges and a.links.get(b.id) is wire and b.links.get(a.id) is wire:
                near[a].append(b)
                near[b].append(a)
        found: dict[int, list[SimNode]] = {}
        for node in judges:
            if node.number not in found:
                group = {node: None}
                for member in (queue := [node]):
                    for other in near[member]:
                        if other not in group:
                            group[other] = None
                            queue.append(other)
                for member in group:
                    found[member.number] = list(group)
        return found

    def whole(self) -> bool:
        """Whether all judges are connected that can find each other. Who heard of nobody but the one machine it was
        given, which died before it met others, is alone, and that is nobody's fault."""
        groups = self.groups()
        if all(len(group) == len(groups) for group in groups.values()):
            return True
        if self.met is None:
            return False
        return not any(
            (part := groups.get(self.number(other))) is not None and part[0] is not groups[node.number][0]
            for node in self.judges()
            for other in self.met[node]
        )

    # What the shell would do.

    def ask_to_dial(self, node: SimNode, peer: NodeId) -> None:
        """The question reaches the peer if there is a way."""
        hop = node.router.next_hop(node.view(), peer)
        other = self.nodes[self.number(peer)]
        if hop is not None and other.up and not other.frozen:
            other.after(0.2, other.overlay_event, Asked(node.id))

    def service_s(self, node: SimNode) -> tuple[float, float]:
        """Seconds to the first token, and from it to the end."""
        slow = node.slow * (20.0 if node in self.liars else 1.0)
        return (0.05 + self.rng.expovariate(5.0)) * slow, self.rng.expovariate(1.0) * slow

    def traffic(self, start_s: float, stop_s: float, per_s: float, patience_s: float) -> None:
        """Jobs from random nodes. Clients of a third are as patient as the run is long: leases run out meanwhile."""
        at = start_s if per_s else stop_s
        while per_s and (at := at + self.rng.expovariate(per_s)) < stop_s:
            number, model = self.rng.randrange(len(self.nodes)), self.rng.choice(MODELS)
            longer_s = stop_s - at if self.rng.random() < PATIENT else 0.0
            self.loop.at(at, self._ask, number, model, patience_s + longer_s)

    def _ask(self, number: int, model: str, patience_s: float) -> None:
        node = self.nodes[number]
        if node.up and not node.frozen and not node.left:
            self.jobs.ask(node, model, patience_s)

    # Faults.

    def schedule(self, faults: Iterable[Fault]) -> None:
        """Let them happen at their times."""
        for fault in faults:
            if fault.kind in BYZANTINE:
                for number in fault.nodes:
                    self.nodes[number].honest = False
            if fault.kind == "replay":
                self.replayed = True
            if fault.kind == "liar":
                self.liars.update(self.nodes[number] for number in fault.nodes)
            elif fault.kind == "blackhole":
                self.black_holes.update(self.nodes[number] for number in fault.nodes)
            else:
                self.loop.at(fault.at_s, self._befall, fault)

    def _befall(self, fault: Fault) -> None:
        self.watch.tell(f"fault {fault}")
        if fault.kind in BYZANTINE:
            byzantine.begin(self, fault)
            return
        whole = {"cut": self._cut, "oneway": self._oneway, "partition": self._partition, "cull": self._cull}
        if fault.kind in whole:
            whole[fault.kind](fault)
        elif fault.kind in ("loss", "drop", "duplicate"):
            setattr(self.network, fault.kind, fault.value)
            self._until(fault, setattr, self.network, fault.kind, 0.0)
        else:
            for number in fault.nodes:
                self._befall_node(fault, self.nodes[number])

    def _until(self, fault: Fault, call: Callable[..., None], *args: Any) -> None:
        if fault.for_s is not None:
            self.loop.after(fault.for_s, call, *args)

    def _cut(self, fault: Fault) -> None:
        a, b = fault.nodes
        self._pairs({(a, b): 1, (b, a): 1})
        self._until(fault, self._pairs, {(a, b): -1, (b, a): -1})

    def _oneway(self, fault: Fault) -> None:
        a, b = fault.nodes
        self._pairs({(a, b): 1})
        self._until(fault, self._pairs, {(a, b): -1})

    def _pairs(self, change: dict[tuple[int, int], int]) -> None:
        for pair, by in change.items():
            self.network.cuts[pair] += by
        self.network.cuts += type(self.network.cuts)()
        self.network.reassess()

    def _partition(self, fault: Fault) -> None:
        count = max(1, int(fault.value * len(self.nodes)))
        numbers = random.Random(f"{self.seed} {fault}").sample(range(len(self.nodes)), count)
        island = frozenset(fault.nodes or numbers)
        self.network.islands.append(island)
        self.network.reassess()
        self._until(fault, self._rejoin, island)

    def _rejoin(self, island: frozenset[int]) -> None:
        self.watch.tell(f"the partition of {len(island)} nodes is over")
        self.network.islands.remove(island)
        self.network.reassess()
        self.watch.healing()

    def _cull(self, fault: Fault) -> None:
        judges = self.judges()
        for node in self.rng.sample(judges, int(fault.value * len(judges))):
            self._stop(node, silent=True)

    def _befall_node(self, fault: Fault, node: SimNode) -> None:
        kind = fault.kind
        if not node.up or node.frozen or node.left:
            return
        if kind in ("crash", "poweroff", "forget"):
            self._stop(node, silent=kind == "poweroff")
            if kind == "poweroff":
                self.watch.died(node)
            self._until(fault, self._again, node, kind == "forget")
        elif kind == "leave":
            self._farewell(node)
        elif kind == "freeze":
            node.freeze()
            self._until(fault, self._thaw, node, node.life)
        elif kind == "slow":
            node.slow = fault.value
            self._until(fault, setattr, node, "slow", 1.0)
        elif kind == "jump":
            node.set_clock(fault.value, 1.0)
        elif kind == "drift":
            node.set_clock(0.0, fault.value)
            self._until(fault, node.set_clock, 0.0, 1.0)
        elif kind == "change" and node.honest:
            name = f"changed {self.loop.now:g}"
            self.watch.probe(node, name)
            node.describe(self.described(node, name))

    def _stop(self, node: SimNode, *, silent: bool) -> None:
        node.crash(silent=silent)
        self.dead.setdefault(node.id, self.loop.now)
        self.jobs.died(node)

    def _again(self, node: SimNode, forgotten: bool) -> None:
        if not node.up and not node.left:
            self.boot(node, forgotten=forgotten)

    def _thaw(self, node: SimNode, life: int) -> None:
        if node.life == life:
            node.thaw()

    def _farewell(self, node: SimNode) -> None:
        """As `meshnode` goes: a tombstone, a moment for it to leave, and the links end."""
        node.left = True
        node.gossip_event(Leave())
        self.loop.after(0.2, self._stop_left, node, node.life)

    def _stop_left(self, node: SimNode, life: int) -> None:
        if node.life == life:
            self._stop(node, silent=False)
