"""What a node knows of its mesh at one moment: adverts of others and its own measurements. Immutable.

Built by the mesh room whenever something changes; read by routing, status pages and model lists. Not for changing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId


@dataclass(frozen=True, slots=True)
class View:
    """Every living node's advert, this one's included, and this node's own links.

    `links` maps each linked neighbour to the measured round trip in seconds. `version` grows with each change, so that
    what is derived from a view can be kept as long as the view is.
    """

    me: NodeId
    adverts: Mapping[NodeId, Advert] = field(default_factory=dict)
    links: Mapping[NodeId, float] = field(default_factory=dict)
    version: int = 0

    def name(self, node: NodeId) -> str:
        """A node's readable name, or the short form of its id."""
        advert = self.adverts.get(node)
        name = advert.name if advert is not None else ""
        if not name.isprintable():
            # A name is another machine's word: it may not move a terminal's cursor or break a header.
            name = "".join(character for character in name if character.isprintable())
        return name or node.short
