"""Counters and gauges of one node in Prometheus' text format. One registry per node, so that several share a process.

Not for logs (log.py) and not for the usage ledger (keep). Labels are bounded: model names that the mesh offers, node
names, outcomes; never a client's free text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""From a warm small model's first token to a cold large one's."""


class Family(NamedTuple):
    """One name's values by the words of its one `label`, which is "" where there is just one value, under "". `kind`:
    "counter" or "gauge"."""

    name: str
    text: str
    kind: str
    label: str
    values: Mapping[str, float]


class _Read(Collector):
    """Families that are read when somebody asks."""

    def __init__(self, read: Callable[[], Iterable[Family]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        for family in self._read():
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            found = kind(family.name, family.text, labels=[family.label] if family.label else [])
            for word, value in family.values.items():
                found.add_metric([word] if family.label else [], value)
            yield found


class Metrics:
    """What a node counts. Methods are cheap enough for once a request, not for once a chunk."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "meshnode_requests", "Requests ended, by outcome.", ("model", "node", "outcome"), registry=self._registry
        )
        self._served = Counter(
            "meshnode_served", "Jobs served for other nodes or forwarded.", ("kind", "outcome"), registry=self._registry
        )
        self._first_token = Histogram(
            "meshnode_first_token_seconds",
            "From a request's arrival to its first body byte.",
            ("model", "node"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        # Looking a child up by its labels costs more than counting in it.
        self._known_requests: dict[tuple[str, str, str], Counter] = {}
        self._known_first_token: dict[tuple[str, str], Histogram] = {}
        self._attempts = Counter("meshnode_attempts", "Servers tried for requests.", registry=self._registry)

    def ended(self, model: str, node: str, outcome: str) -> None:
        """One request of this node's clients ended: `outcome` is "ok" or an error's code."""
        key = (model, node, outcome)
        child = self._known_requests.get(key)
        if child is None:
            child = self._known_requests[key] = self._requests.labels(*key)
        child.inc()

    def served(self, kind: str, outcome: str) -> None:
        """One job from another node ended here; `kind` is "serve" or "relay"."""
        self._served.labels(kind, outcome).inc()

    def first_token(self, model: str, node: str, seconds: float) -> None:
        """The first body byte of an answer was there after `seconds`."""
        key = (model, node)
        child = self._known_first_token.get(key)
        if child is None:
            child = self._known_first_token[key] = self._first_token.labels(*key)
        child.observe(seconds)

    def attempt(self) -> None:
        """One server is tried."""
        self._attempts.inc()

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Register a value that is read when somebody asks."""
        Gauge(name, text, registry=self._registry).set_function(read)

    def families(self, read: Callable[[], Iterable[Family]]) -> None:
        """Register families whose values are read when somebody asks."""
        self._registry.register(_Read(read))

    def render(self) -> bytes:
        """The page a scraper reads."""
        return generate_latest(self._registry)
