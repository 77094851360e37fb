"""What a node knows of its mesh at one moment: adverts of others and its own measurements. Immutable.

Built by the mesh room whenever something changes; read by routing, status pages and model lists. Not for changing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshnode.model.advert import Advert, ModelOffer
from meshnode.model.ids import NodeId
from meshnode.model.posture import Posture


@dataclass(frozen=True, slots=True)
class View:
    """Every living node's advert, this one's included, and this node's own links.

    `links` maps each linked neighbour to the measured round trip in seconds. `version` grows with each change, so that
    what is derived from a view can be kept as long as the view is.

    `postures` is what this node has verified itself, for the whole node: SIGNED_WEIGHTS where every model it offers is
    covered; `weights` are the digests covered by a manifest of a trusted signer, for each node that offers them. Who
    is missing there has only claimed. `pinned` are the nodes that a person at this one pinned by their ids.
    """

    me: NodeId
    adverts: Mapping[NodeId, Advert] = field(default_factory=dict)
    links: Mapping[NodeId, float] = field(default_factory=dict)
    version: int = 0
    postures: Mapping[NodeId, Posture] = field(default_factory=dict)
    weights: Mapping[NodeId, frozenset[bytes]] = field(default_factory=dict)
    pinned: frozenset[NodeId] = frozenset()

    def posture(self, node: NodeId, digest: bytes) -> Posture:
        """What is verified of `node` serving the model with these weights."""
        known = self.postures.get(node, Posture.CLAIMED)
        covered = bool(digest) and digest in self.weights.get(node, ())
        return max(known, Posture.SIGNED_WEIGHTS) if covered else known

    def offer(self, node: NodeId, model: str) -> ModelOffer | None:
        """What a node says of a model, by the name that it offers it under."""
        advert = self.adverts.get(node)
        return next((one for one in advert.models if one.name == model), None) if advert is not None else None

    def name(self, node: NodeId) -> str:
        """A node's readable name, or the short form of its id."""
        advert = self.adverts.get(node)
        name = advert.name if advert is not None else ""
        if not name.isprintable():
            # A name is another machine's word: it may not move a terminal's cursor or break a header.
            name = "".join(character for character in name if character.isprintable())
        return name or node.short
