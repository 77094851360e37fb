"""Section `routing`: how servers are compared and when they are set aside. requests.md §1 and §3 give the reasons."""

from __future__ import annotations

from dataclasses import dataclass, field

from meshnode.config.aliases import Aliases
from meshnode.config.types import Factor, NodeIdText, Positive, Seconds, Share, Whole


@dataclass(frozen=True, slots=True)
class RoutingSection:
    # What each relay on the way costs besides its round trips: its load, and one more node that may break.
    relay_penalty_s: Seconds = 0.02
    # How fast a measured peak fades towards what is usual.
    decay_s: Seconds = 10.0
    # Share of decisions that sample all servers alike, so that a server once slow is met again.
    explore: Share = 0.01
    # Guesses for servers never measured, doubled before use: a mid-range GPU with an 8B model.
    guess_first_token_s: Seconds = 0.5
    guess_token_s: Seconds = 0.03
    # Loading a model that is offered but not loaded: 5 GB from a common SSD, and warming up.
    cold_start_s: Seconds = 20.0
    # Price of a million tokens, in millionths, that makes a server count as twice as slow.
    price_doubles_micro: Positive = 10_000_000
    # Watts that do so; a desktop with one large GPU draws about 500 at work. 0: power is not weighed.
    watts_doubles: Whole = 2000
    # A server whose weights nobody vouched for counts as so much slower: of two alike the verified one is taken.
    claimed_counts: Factor = 1.1
    # Names of this node's own for models, with tiers that spill when busy; none, since nobody else knows them.
    aliases: Aliases = field(default_factory=dict)
    # Ids of nodes that may serve sensitive requests without evidence, as those pinned by hand may. Whole ids: a name is
    # only what its node says.
    sensitive_nodes: tuple[NodeIdText, ...] = ()
    # Whether every request of this node stays on machines of its owner.
    own_machines: bool = False
    # Conversations whose server is remembered, so that its cache of the prompt is used again, and for how long: engines
    # reuse what they cached within minutes, and 4,096 open conversations are more than one entry node sees.
    sessions: Positive = 4096
    session_s: Seconds = 1200.0
    # Pairs of server and model measured at once, and with failures remembered; the least recent go first.
    measured: Positive = 4096
    # Consecutive failures that open a breaker; how long it stays open, doubling up to the most.
    breaker_failures: Positive = 5
    breaker_open_s: Seconds = 5.0
    breaker_most_s: Seconds = 60.0
    # While half open: time between probes, and successes that close it.
    breaker_probe_s: Seconds = 1.0
    breaker_successes: Positive = 2
    # Nodes named in an error that says why nobody could serve; more would hide the reason.
    named_in_errors: Whole = 5
