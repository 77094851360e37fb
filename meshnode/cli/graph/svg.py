"""The graph as one SVG file that needs nothing else: rings of nodes, links, round trips, tunnels, a legend. Pure.

Follows the reader's light or dark surroundings. Every word from another machine is escaped. Counterpart: layout.py,
which says where things stand.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import hypot
from xml.sax.saxutils import escape

from meshnode.cli.graph.layout import Place, places
from meshnode.cli.graph.report import Graph, GraphEdge, GraphNode

MARGIN_PX = 110.0
LEGEND_PX = 46.0
SMALLEST_PX = 560.0
DOT_PX = 17.0

MOST_LABELLED = 30
"""Of more links than this, only ways have their round trip beside them: more would hide the picture."""

LONGEST = 22
"""Characters of a name or a model's; the whole is in the tooltip."""

BEND = 0.16
"""How far a link off the ways bends, in parts of its length: so that it does not run through the middle."""

_LIGHT = {
    "back": "#ffffff", "ink": "#1c2430", "dim": "#66707f", "line": "#9aa5b4", "way": "#2f6fde", "relay": "#0f9d8a",
    "me": "#e8590c", "gone": "#b3bac4", "half": "#d6336c", "tunnel": "#7048e8",
}  # fmt: skip
_DARK = {
    "back": "#12161d", "ink": "#e8ecf2", "dim": "#98a2b3", "line": "#5b6675", "way": "#6ea8ff", "relay": "#2bb89a",
    "me": "#f08c2e", "gone": "#4b5563", "half": "#f783ac", "tunnel": "#b197fc",
}  # fmt: skip

_SHAPES = """
svg { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif }
path, .ring { fill: none }
.ring { stroke-opacity: .2 }
.link { stroke-width: 1.4; stroke-opacity: .6 }
.way { stroke-width: 2.4 }
.half { stroke-width: 1.4; stroke-dasharray: 3 4 }
.tunnel { stroke-width: 2.2; stroke-dasharray: 9 5 }
.dot { stroke-width: 3 }
.draining { fill-opacity: .45 }
text { text-anchor: middle }
.halo { stroke-width: 4px; stroke-linejoin: round }
.name { font-size: 14px; font-weight: 600 }
.what { font-size: 11.5px }
.rtt { font-size: 10.5px }
.count { font-size: 12px; font-weight: 700; fill: #fff }
.legend { font-size: 11.5px; text-anchor: start }
"""


def _colours(of: dict[str, str]) -> str:
    """Plain rules, no custom properties: those who show SVG files know few of them."""
    return "\n".join((
        f".back {{ fill: {of['back']} }} .dot, .halo {{ stroke: {of['back']} }}",
        f".name {{ fill: {of['ink']} }} .what, .rtt, .legend {{ fill: {of['dim']} }}",
        f".ring, .link {{ stroke: {of['line']} }} .way {{ stroke: {of['way']} }} .half {{ stroke: {of['half']} }}",
        f".tunnel {{ stroke: {of['tunnel']} }} .me {{ fill: {of['me']} }} .direct {{ fill: {of['way']} }}",
        f"circle.relay {{ fill: {of['relay']} }} .gone {{ fill: {of['gone']} }}",
    ))  # fmt: skip


_STYLE = f"{_colours(_LIGHT)}\n{_SHAPES}@media (prefers-color-scheme: dark) {{\n{_colours(_DARK)}\n}}\n"


def draw(graph: Graph) -> str:
    """The whole file."""
    at = places(graph)
    left, top, width, height = _frame(at)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:.0f} {top:.0f} {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="the mesh">',
        f"<style>{_STYLE}</style>",
        f'<rect class="back" x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{height:.0f}"/>',
        *(f'<circle class="ring" r="{radius:.1f}"/>' for radius in _radii(at)),
        *_links(graph, at),
        *_tunnels(graph, at),
        *(_node(node, at[node.id]) for node in graph.nodes if node.id in at),
        *_legend(graph, left + 24, top + height - 24),
        "</svg>",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _radii(at: dict[str, Place]) -> list[float]:
    return sorted({round(hypot(place.x, place.y), 1) for place in at.values()} - {0.0})


def _escaped(text: str) -> str:
    """What XML can hold: control characters have no place in it, escaped or not."""
    return escape("".join(character for character in text if character.isprintable()))


def _frame(at: dict[str, Place]) -> tuple[float, float, float, float]:
    """Left, top, width, height: what is drawn, with a margin for names and a line for the legend."""
    reach_x = max(MARGIN_PX, *(abs(place.x) for place in at.values())) + MARGIN_PX
    width = max(SMALLEST_PX, 2 * reach_x)
    top = min(place.y for place in at.values()) - MARGIN_PX * 0.6
    bottom = max(place.y for place in at.values()) + MARGIN_PX * 0.7
    return -width / 2, top, width, bottom - top + LEGEND_PX


def _links(graph: Graph, at: dict[str, Place]) -> Iterator[str]:
    """Ways last, so that they lie above."""
    ways = {frozenset((node.parent, node.id)) for node in graph.nodes if node.parent is not None}
    drawn = sorted(graph.edges, key=lambda edge: frozenset(edge.ends) in ways)
    labels: list[str] = []
    for edge in (edge for edge in drawn if edge.ends[0] in at and edge.ends[1] in at):
        way = frozenset(edge.ends) in ways
        one, other = (at[end] for end in edge.ends)
        bend = 0.0 if way or not (one.ring and other.ring) else BEND
        kind = "way" if way else "link" if edge.both else "half"
        curve, middle = _curve(one, other, bend)
        yield f'<path class="{kind}" d="{curve}"><title>{_title(edge, graph)}</title></path>'
        if way or len(graph.edges) <= MOST_LABELLED:
            labels.append(_text("rtt", middle[0], middle[1] + 3, edge.rtt))
    yield from labels


def _tunnels(graph: Graph, at: dict[str, Place]) -> Iterator[str]:
    for tunnel in graph.tunnels:
        ends = [at[id_] for id_ in (*tunnel.way[:1], *tunnel.way[-1:]) if id_ in at]
        if len(ends) == 2:
            words = f"sealed tunnel, {tunnel.streams} streams"
            yield f'<path class="tunnel" d="{_curve(ends[0], ends[1], 2 * BEND)[0]}"><title>{words}</title></path>'


def _curve(one: Place, other: Place, bend: float) -> tuple[str, tuple[float, float]]:
    """A path between two places, and its middle. It bends outwards, away from the middle of the picture."""
    x, y = (one.x + other.x) / 2, (one.y + other.y) / 2
    across_x, across_y = other.y - one.y, one.x - other.x
    if across_x * x + across_y * y < 0:
        across_x, across_y = -across_x, -across_y
    turn_x, turn_y = x + across_x * bend, y + across_y * bend
    curve = f"M{one.x:.1f} {one.y:.1f}Q{turn_x:.1f} {turn_y:.1f} {other.x:.1f} {other.y:.1f}"
    return curve, ((x + turn_x) / 2, (y + turn_y) / 2)


def _title(edge: GraphEdge, graph: Graph) -> str:
    known = graph.by_id()
    one, other = (known[end].label if end in known else end[:9] for end in edge.ends)
    said = "both ends say so" if edge.both else "only one end says so"
    return _escaped(f"{one} - {other}: {edge.rtt}, {said}")


def _node(node: GraphNode, place: Place) -> str:
    kind = node.state if node.state in ("me", "direct", "relay") else "gone"
    dot = f"dot {kind}{' draining' if node.draining else ''}"
    what = ", ".join(node.models[:2]) + (f" +{len(node.models) - 2}" if len(node.models) > 2 else "")
    above = place.y < -1.0
    first, second = (-DOT_PX - 22, -DOT_PX - 7) if above else (DOT_PX + 17, DOT_PX + 32)
    if above and not what:
        first = second
    rtt = "" if node.rtt_ms is None or kind == "me" else f", {node.rtt_ms:.1f} ms away"
    title = _escaped(f"{node.label} ({node.short}): {node.state}{rtt}{'; ' + ', '.join(node.models) if what else ''}")
    return (
        f'<g transform="translate({place.x:.1f} {place.y:.1f})"><title>{title}</title>'
        f'<circle class="back" r="{DOT_PX}"/><circle class="{dot}" r="{DOT_PX}"/>'
        + (f'<text class="count" y="4.5">{len(node.models)}</text>' if node.models else "")
        + _text("name", 0, first, _short(node.label))
        + (_text("what", 0, second, _short(what, 2 * LONGEST)) if what else "")
        + "</g>"
    )


def _text(kind: str, x: float, y: float, words: str) -> str:
    """Words over what is behind them: a wide outline in the paper's colour, then the words. Few who show SVG files
    paint an outline below its own text."""
    where, words = f'x="{x:.1f}" y="{y:.1f}"', _escaped(words)
    return f'<text class="{kind} halo" {where}>{words}</text><text class="{kind}" {where}>{words}</text>'


def _short(text: str, most: int = LONGEST) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _legend(graph: Graph, x: float, y: float) -> Iterator[str]:
    """Only what is in the picture."""
    shown = {node.state for node in graph.nodes}
    words = {"me": "this node", "direct": "linked", "relay": "through others", "gone": "gone"}
    for kind, text in words.items():
        if kind in shown:
            yield f'<circle class="{kind}" cx="{x + 6:.0f}" cy="{y - 4:.0f}" r="6"/>'
            yield f'<text class="legend" x="{x + 17:.0f}" y="{y:.0f}">{text}</text>'
            x += 34 + 6.2 * len(text)
    lines = {"way": ("way", True), "link": ("other link", True),
             "half": ("only one end says so", any(not edge.both for edge in graph.edges)),
             "tunnel": ("sealed tunnel", bool(graph.tunnels))}  # fmt: skip
    for kind, (text, there) in lines.items():
        if there:
            yield f'<path class="{kind}" d="M{x:.0f} {y - 4:.0f}h26"/>'
            yield f'<text class="legend" x="{x + 33:.0f}" y="{y:.0f}">{text}</text>'
            x += 50 + 6.2 * len(text)
