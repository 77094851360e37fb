"""What this node can prove of itself, and what it has verified of others: signed weights, operators' statements.

Joins files (engine.weights), the home (keep.evidence) and links (mesh.vouching), which do not know each other. Not for
what evidence means (trust) nor for who may be given what (routing). Counterpart: node.py, which runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from meshnode.config.trust import TrustSection
from meshnode.engine.weights import Weights
from meshnode.identity import NodeKey
from meshnode.keep.evidence import load_statement
from meshnode.mesh.vouching import Shown, Vouching
from meshnode.model.advert import ModelOffer
from meshnode.trust.keys import parse_keys

if TYPE_CHECKING:
    from meshnode.mesh.mesh import Mesh


class Proofs:
    """`run` looks after both sides. `files()` are the weights of models as engines say them, `mesh()` the present mesh;
    `changed()` is told when what may be claimed has changed. Raises ConfigError."""

    def __init__(
        self,
        key: NodeKey,
        section: TrustSection,
        home: Path,
        files: Callable[[], Mapping[str, Path]],
        mesh: Callable[[], Mesh],
        changed: Callable[[], None],
    ) -> None:
        # Its own word counts for its own files: whether others believe it is theirs to say.
        signers = parse_keys(section.signers, "trust.signers") | {bytes(key.id)}
        self._weights = Weights(section.weights, section.weights_look_s, signers, files, changed)
        shown = Shown(partial(load_statement, home), self._weights.envelope, self._weights.digests)
        self._vouching = Vouching(key, section, shown, mesh, changed)
        self.serve = self._vouching.serve

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Returns only by cancellation."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._vouching.run)
            nursery.start_soon(self._weights.run)
            task_status.started()

    def marked(self, offers: Iterable[ModelOffer]) -> tuple[ModelOffer, ...]:
        """The offers, those of verified weights with the digests that prove them."""
        return self._weights.marked(offers)

    def posture(self, offers: Iterable[ModelOffer]) -> str:
        """What this node claims of itself; others ask for the proof."""
        if self._vouching.attested:
            return "attested"
        verified, digests = self._weights.digests(), [offer.digest for offer in offers]
        return "signed-weights" if digests and verified.issuperset(digests) else "claimed"
