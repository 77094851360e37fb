"""A neighbour's budgets: what it may cost this node. Not for whether its link is alive (net)."""

from __future__ import annotations

from dataclasses import dataclass

from meshnode.config.gossip import GossipSection
from meshnode.gossip.rates import Bucket

_DIGEST_BURST = 4
"""Digests answered in a row; an honest neighbour sends one per `anti_entropy_s` at most, and one on a new link."""

_FAVOUR_BURST = 32
"""ProbeFor and Suspect per period: what an honest neighbour says when it loses sixteen others at once."""

_PROOF_BURST = 8
"""Proofs shown per period of anti-entropy; a neighbour that was away for an hour missed few."""


@dataclass(slots=True)
class Neighbour:
    """Signatures checked for it, adverts sent on its demand, digests answered, probes made for it and accusations
    heard, proofs shown to it.

    `starved`: it had more news than could be checked, so it is asked first in the next round.
    """

    checks: Bucket
    served: Bucket
    digests: Bucket
    favours: Bucket
    proofs: Bucket
    starved: bool = False


def burst(section: GossipSection) -> int:
    """Adverts checked, or sent, at once: as many as the rate allows between two rounds of anti-entropy, so that rounds
    alone reach the full rate."""
    return max(1, int(section.verifications_per_s * section.anti_entropy_s))


def neighbour(section: GossipSection) -> Neighbour:
    """A new neighbour with full budgets."""
    each_s = 1.0 / section.verifications_per_s
    return Neighbour(
        checks=Bucket(burst(section), each_s),
        served=Bucket(burst(section), each_s),
        digests=Bucket(_DIGEST_BURST, section.anti_entropy_s / 2),
        favours=Bucket(_FAVOUR_BURST, section.probe_s / _FAVOUR_BURST),
        proofs=Bucket(_PROOF_BURST, section.anti_entropy_s / _PROOF_BURST),
    )
