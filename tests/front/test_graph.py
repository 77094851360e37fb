"""The graph says who names whom, what is measured here, and by which way each node is reached."""

from __future__ import annotations

from meshnode.front.graph import Tunnel, graph
from meshnode.model.advert import Advert, ModelOffer, Neighbour
from meshnode.model.ids import NodeId
from meshnode.model.view import View
from meshnode.routing import Tree

A, B, C, D = (NodeId(bytes([byte]) * 32) for byte in (1, 2, 3, 4))


def advert(node: NodeId, name: str, *links: tuple[NodeId, int], **more: object) -> Advert:
    neighbours = tuple(Neighbour(bytes(other), rtt_ms) for other, rtt_ms in links)
    return Advert(bytes(node), bytes(32), 1, 1, 60, name=name, neighbours=neighbours, **more)  # type: ignore[arg-type]


def row() -> View:
    """alpha - bravo - charlie; delta is named by charlie, and names nobody."""
    adverts = [
        advert(A, "alpha", (B, 2)),
        advert(B, "bravo", (A, 1), (C, 5), models=(ModelOffer("m", slots=3), ModelOffer("lost", down=True))),
        advert(C, "charlie", (B, 10), (D, 20)),
        advert(D, "delta"),
    ]
    return View(A, {one.node: one for one in adverts}, {B: 0.0012})


def test_nodes_have_a_state_and_a_way() -> None:
    view = row()
    nodes = {node["name"]: node for node in graph(view, Tree(view, 0.0))["nodes"]}
    assert [(name, node["state"]) for name, node in nodes.items()] == [
        ("alpha", "me"), ("bravo", "direct"), ("charlie", "relay"), ("delta", "gone"),
    ]  # fmt: skip
    assert nodes["charlie"]["path"] == [A.text, B.text, C.text]
    assert nodes["delta"]["path"] == []
    assert (nodes["bravo"]["models"], nodes["bravo"]["slots"]) == (["m"], 3)


def test_an_edge_is_told_once_with_the_larger_round_trip_and_who_says_it() -> None:
    view = row()
    edges = {tuple(edge["ends"]): edge for edge in graph(view, Tree(view, 0.0))["edges"]}
    assert set(edges) == {(A.text, B.text), (B.text, C.text), (C.text, D.text)}
    own = edges[A.text, B.text]
    assert (own["rtt_class_ms"], own["rtt_ms"], own["both"], own["linked"]) == (2, 1.2, True, True)
    heard = edges[B.text, C.text]
    assert (heard["rtt_class_ms"], heard["rtt_ms"], heard["both"], heard["linked"]) == (10, None, True, False)
    assert (edges[C.text, D.text]["said_by"], edges[C.text, D.text]["both"]) == ([C.text], False)


def test_a_link_that_no_advert_tells_of_yet_is_there() -> None:
    view = View(A, {A: advert(A, "alpha")}, {B: 0.003})
    found = graph(view, Tree(view, 0.0))
    assert [(edge["rtt_class_ms"], edge["rtt_ms"]) for edge in found["edges"]] == [(None, 3.0)]
    assert [node["id"] for node in found["nodes"]] == [A.text, B.text]


def test_tunnels_are_this_nodes() -> None:
    view = row()
    found = graph(view, Tree(view, 0.0), [Tunnel((A, B, C), True, 2)], relayed=3)
    assert found["tunnels"] == [{"peer": C.text, "way": [A.text, B.text, C.text], "opened": True, "streams": 2}]
    assert found["tunnels_relayed"] == 3
