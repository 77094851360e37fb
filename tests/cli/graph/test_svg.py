"""The picture is well-formed whatever others call themselves, and shows what there is."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from meshnode.cli.graph import report, svg
from meshnode.cli.graph.report import Graph, GraphNode
from tests.cli.graph.meshes import ROW

SVG = "{http://www.w3.org/2000/svg}"


def drawn(graph: Graph) -> ElementTree.Element:
    return ElementTree.fromstring(svg.draw(graph))


def classes(of: ElementTree.Element, tag: str) -> list[str]:
    return [element.get("class", "") for element in of.iter(f"{SVG}{tag}")]


def test_nodes_links_and_tunnels_are_all_there() -> None:
    picture = drawn(report.read(ROW))
    dots = [kind for kind in classes(picture, "circle") if kind.startswith("dot")]
    assert sorted(dots) == ["dot direct", "dot gone", "dot me", "dot relay", "dot relay draining"]
    lines = classes(picture, "path")
    # One of each is the legend's.
    assert (lines.count("way"), lines.count("link"), lines.count("half"), lines.count("tunnel")) == (4, 2, 2, 2)
    words = [text.text for text in picture.iter(f"{SVG}text") if text.get("class") == "name"]
    assert words == ["alpha", "bravo", "charlie", "delta", "echo"]


@given(st.text(max_size=200), st.text(max_size=200))
def test_names_from_other_machines_break_nothing(name: str, model: str) -> None:
    picture = drawn(Graph("a", (GraphNode("a", name=name, models=(model,), path=("a",)),)))
    assert all(element.tag.startswith(SVG) for element in picture.iter())
    assert not list(picture.iter(f"{SVG}script"))


def test_a_node_alone_is_a_picture_too() -> None:
    assert classes(drawn(Graph("a", (GraphNode("a", state="me", path=("a",)),))), "circle")


def test_a_crowd_of_links_has_numbers_on_its_ways_only() -> None:
    names = [f"n{number}" for number in range(16)]
    document = {
        "me": "n0",
        "nodes": [{"id": name, "path": ["n0"] if name == "n0" else ["n0", name]} for name in names],
        "edges": [
            {"ends": [one, other], "rtt_class_ms": 1, "both": True}
            for place, one in enumerate(names) for other in names[place + 1 :]
        ],
    }  # fmt: skip
    assert classes(drawn(report.read(document)), "text").count("rtt") == 15
