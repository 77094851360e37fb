"""Small meshes for the tests of this room. Nodes are numbers; links are pairs with a round trip in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from meshnode.config.dispatch import DispatchSection
from meshnode.config.routing import RoutingSection
from meshnode.model.advert import Advert, ModelOffer, Neighbour
from meshnode.model.ids import NodeId
from meshnode.model.job import Facts, Job
from meshnode.model.view import View
from meshnode.routing import LocalState, Router
from meshnode.slots import Load

DISPATCH = DispatchSection()
SECTION = RoutingSection(explore=0.0)
FREE = Load(free=1, busy=0, queued=0, expected_wait_s=0.0)

_versions = count(1)


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(2, "big") * 16)


ME = node(0)


def offer(name: str = "llama", context: int = 8192, **more: Any) -> ModelOffer:
    return ModelOffer(name=name, context=context, **more)


def advert(number: int, neighbours: Mapping[int, int] | None = None, **more: Any) -> Advert:
    named = {"name": f"n{number}", "models": (offer(),), **more}
    return Advert(
        id=bytes(node(number)),
        mesh=b"m" * 32,
        incarnation=1,
        sequence=1,
        lifetime_s=180,
        neighbours=tuple(Neighbour(bytes(node(other)), ms) for other, ms in (neighbours or {}).items()),
        **named,
    )


def mesh(
    links: Iterable[tuple[int, int, int]], nodes: int = 0, changes: Mapping[int, Mapping[str, Any]] | None = None
) -> View:
    """A view of node 0 on nodes 0 … `nodes` - 1, or as many as the links name; `changes` are advert fields by node."""
    links = list(links)
    numbers = range(max(nodes, 1 + max((max(a, b) for a, b, _ in links), default=0)))
    near: dict[int, dict[int, int]] = {number: {} for number in numbers}
    for a, b, ms in links:
        near[a][b] = near[b][a] = ms
    adverts = {node(n): advert(n, near[n], **(changes or {}).get(n, {})) for n in numbers}
    return View(ME, adverts, {node(other): ms / 1000 for other, ms in near[0].items()}, next(_versions))


def star(peers: int, changes: Mapping[int, Mapping[str, Any]] | None = None, ms: int = 10) -> View:
    """Node 0 offers nothing and is linked to each peer."""
    return mesh([(0, n, ms) for n in range(1, peers + 1)], changes={0: {"models": ()}, **(changes or {})})


def job(model: str = "llama", *, hops_left: int = 4, **facts: Any) -> Job:
    return Job(
        id="j1",
        route="/v1/chat/completions",
        body=b"{}",
        facts=Facts(model=model, **facts),
        origin=ME,
        deadline=1000.0,
        hops_left=hops_left,
    )


def router(section: RoutingSection = SECTION, dispatch: DispatchSection = DISPATCH) -> Router:
    return Router(dispatch, section)


def serving(load: Load = FREE, model: str = "llama") -> LocalState:
    return LocalState({model: load})


NOTHING = LocalState()
