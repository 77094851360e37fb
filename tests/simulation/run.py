"""One run of one seed: build, let happen, wait until all is quiet, look. And the shortest scenario that still fails."""

from __future__ import annotations

import gc
import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from meshnode.config.gossip import GossipSection
from meshnode.config.mesh import MeshSection
from tests.simulation import faults as menu
from tests.simulation.arithmetic import Expected, expected
from tests.simulation.faults import SHORT_S, START_S, Fault
from tests.simulation.stand_ins import shared
from tests.simulation.watch import Broken, watching
from tests.simulation.world import LARGE, World

PERIODS = 3
"""Rounds of anti-entropy after which all views are equal (reliability.md)."""

WHOLE_AGAIN_S = 90.0
"""After the faults the mesh is connected again within this time: the longest redial back-off, and half as much."""

APART_S = 2.0
"""In every twentieth seed nodes start one by one, within this time. Where they start together every other time they are
strangers, who tell each other all, and else acquainted: each flood at the start is a fifth of a run's work."""

STILL_S = 600.0
"""Links that are exchanged so rarely are not exchanged within a run."""

PATIENCE_S = 11.0
"""Deadline of a job."""

FAR_S = (0.02, 0.15)
"""One-way latencies of every fourth seed: everybody is on another continent."""

MOST_TRIES = 40
"""Runs that shrinking may take."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What decides a run. `faults` None: those of the seed."""

    seed: int
    nodes: int
    faults: tuple[Fault, ...] | None = None
    until: float | None = None
    jobs_per_s: float = 2.0
    refresh_s: float | None = None
    swap_s: float | None = None
    steady: bool = False
    latency_s: float | None = None

    @property
    def scenario(self) -> list[Fault]:
        """The faults that happen."""
        return list(self.faults) if self.faults is not None else menu.menu(self.seed, self.nodes)

    @property
    def replay(self) -> str:
        """The command that runs this again."""
        until = f" --until {self.until:g}" if self.until is not None else ""
        found = f"python -m tests.simulation --seed {self.seed} --nodes {self.nodes}{until}"
        found += f" --latency {self.latency_s:g}" if self.latency_s is not None else ""
        found += " --steady" if self.steady else ""
        found += f" --refresh {self.refresh_s:g}" if self.refresh_s is not None else ""
        found += f" --swap {self.swap_s:g}" if self.swap_s is not None else ""
        return f"{found} --jobs {self.jobs_per_s:g} --faults '{menu.write(self.scenario)}'"


@dataclass(slots=True)
class Outcome:
    """What came of a run; plain values, because they cross processes."""

    setup: Setup
    failure: str = ""
    trace: list[str] = field(default_factory=list)
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    events: int = 0
    frames: int = 0
    bytes: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    converged_s: list[float | None] = field(default_factory=list)
    whole_s: float = 0.0
    healed_s: list[float | None] = field(default_factory=list)
    missed_s: list[float] = field(default_factory=list)
    unseen_s: float = 0.0
    unseen: str = ""
    liars_share: float = 0.0
    tries: Counter[str] = field(default_factory=Counter)
    proofs: list[str] = field(default_factory=list)
    violations: Counter[str] = field(default_factory=Counter)
    fingerprint: str = ""
    unknown: Counter[str] = field(default_factory=Counter)
    expected: Expected = field(default_factory=Expected)


def gossip_of(setup: Setup) -> GossipSection:
    """Every fifth seed lives fast, so that lifetimes end within a run."""
    if setup.refresh_s is not None:
        return GossipSection(lifetime_s=3 * setup.refresh_s, refresh_s=setup.refresh_s)
    return GossipSection(lifetime_s=36.0, refresh_s=12.0) if setup.seed % 5 == 4 else GossipSection()


def mesh_of(setup: Setup) -> MeshSection:
    """The default, unless links are exchanged more or less often. In three of four seeds they are not: exchanges would
    be half of a run's work."""
    if setup.swap_s is not None:
        return MeshSection(swap_s=setup.swap_s)
    return MeshSection() if setup.seed % 4 == 1 or setup.nodes > LARGE else MeshSection(swap_s=STILL_S)


def run(setup: Setup) -> Outcome:
    """One run. What an invariant says against it is in `failure`."""
    began = time.process_time()
    world = World(setup.seed, setup.nodes, gossip_of(setup), mesh_of(setup))
    if setup.latency_s is not None:
        world.network.latency_s = (setup.latency_s, setup.latency_s)
    elif setup.seed % 4 == 2:
        world.network.latency_s = FAR_S
    outcome = Outcome(setup)
    gc.disable()  # a run is short and its garbage is small; collecting costs a tenth of the time
    with shared(tables=setup.nodes > LARGE), watching(world.watch):
        try:
            outcome.whole_s = _live(world, setup)
        except Broken as broken:
            outcome.failure = str(broken)
        except Exception as error:  # crash barrier: a machine that raises has failed the run
            outcome.failure = f"{world.loop.now:.3f}: {type(error).__name__}: {error}"
    _gather(world, outcome)
    gc.enable()
    outcome.cpu_s = time.process_time() - began
    return outcome


def _live(world: World, setup: Setup) -> float:
    """From the first node's start to the last look. Returns how long the mesh took to be whole after the faults."""
    scenario, loop = setup.scenario, world.loop
    end = _end(setup)
    world.schedule(fault for fault in scenario if fault.at_s < end or fault.kind == "change")
    if setup.seed % 20 == 3 and setup.nodes <= LARGE:
        world.boot_one_by_one(APART_S)
    else:
        strangers = setup.seed % 5 == 0 and setup.nodes <= LARGE
        world.boot_linked(muted=not strangers)
        if not strangers:
            world.acquaint(steady=setup.steady)
    world.traffic(START_S - 1.0, end, setup.jobs_per_s, PATIENCE_S)
    step_s = 1.0 if setup.nodes <= LARGE else 5.0
    _go(world, end, step_s)
    whole_s = _until_whole(world, end, step_s)
    quiet_s = PERIODS * world.gossip_section.anti_entropy_s
    _go(world, max(loop.now + quiet_s, end + PATIENCE_S + 4.0), step_s)
    behind = world.watch.behind(quiet_s)
    if behind:
        world.watch.broken(f"views differ {quiet_s:g} s after the mesh was whole: {behind}")
    undetected = world.watch.undetected(quiet_s)
    if undetected:
        world.watch.broken(undetected)
    world.jobs.check()
    return whole_s


def _end(setup: Setup) -> float:
    """When the last fault is over."""
    stop = max([SHORT_S, *(fault.until for fault in setup.scenario if fault.kind != "change")])
    return min(stop, setup.until) if setup.until is not None else stop


def _go(world: World, until: float, step_s: float) -> None:
    while world.loop.now < until:
        before = world.loop.now
        world.loop.run(min(until, before + step_s))
        if before >= START_S - 1.0:
            world.watch.sample(step_s)


def _until_whole(world: World, end: float, step_s: float) -> float:
    while not world.whole():
        if world.loop.now > end + WHOLE_AGAIN_S:
            world.watch.broken(f"the mesh is still in parts {WHOLE_AGAIN_S:g} s after the faults")
        _go(world, world.loop.now + step_s, step_s)
    return world.loop.now - end


def _gather(world: World, outcome: Outcome) -> None:
    watch, network, jobs = world.watch, world.network, world.jobs
    watch.settle_probes()
    outcome.trace = list(watch.log)
    outcome.virtual_s, outcome.events, outcome.frames = world.loop.now, world.loop.events, network.frames
    outcome.bytes = Counter({kind.decode(): size for kind, size in network.bytes.items()})
    outcome.outcomes = jobs.outcomes
    outcome.converged_s = [probe.done_at - probe.since if probe.done_at is not None else None for probe in watch.probes]
    outcome.healed_s, outcome.missed_s, outcome.expected = watch.healed_s, watch.missed_s, expected(world)
    outcome.unseen_s, outcome.unseen = watch.longest_unseen_s, watch.longest_unseen
    outcome.tries = jobs.roles + Counter(
        {"lease ran out": jobs.expired, "fell quiet": jobs.quiet, "older stopped": jobs.superseded}
    )
    served = sum(jobs.served.values())
    outcome.liars_share = sum(jobs.served[liar.number] for liar in world.liars) / served if served else 0.0
    for culprit, holders in watch.proofs.items():
        took_s = max(holders.values()) - min(holders.values())
        outcome.proofs.append(f"n{world.number(culprit)} by {len(holders)} nodes within {took_s:.1f} s")
    told = (outcome.events, outcome.frames, sorted(outcome.bytes.items()), sorted(outcome.outcomes.items()), watch.log)
    outcome.fingerprint = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
    outcome.violations, outcome.unknown = watch.violations, watch.unknown_commands


def shrink(setup: Setup, fails: Callable[[Setup], bool] | None = None) -> Setup:
    """A shorter scenario that fails too: half the time again and again, then without one fault after the other."""
    fails = fails or (lambda tried: bool(run(tried).failure))
    tries = 0

    def still(tried: Setup) -> bool:
        nonlocal tries
        tries += 1
        return tries <= MOST_TRIES and fails(tried)

    best = replace(setup, faults=tuple(setup.scenario))
    until = _end(best)
    while until > 4.0 and still(shorter := replace(best, until=until / 2)):
        best, until = shorter, until / 2
    if still(quiet := replace(best, jobs_per_s=0.0)):
        best = quiet
    for fault in best.scenario:
        fewer = replace(best, faults=tuple(other for other in best.scenario if other is not fault))
        if still(fewer):
            best = fewer
    return best
