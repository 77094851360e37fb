"""What choosing keeps between decisions: what was learnt of servers, and what was derived from the newest view. Pure.

Not for deciding (plan.py) nor for learning (router.py).
"""

from __future__ import annotations

from meshnode.config.routing import RoutingSection
from meshnode.model.view import View
from meshnode.routing.affinity import Affinity
from meshnode.routing.aliases import Aliases
from meshnode.routing.aperture import Aperture
from meshnode.routing.asked import Asked, read_name
from meshnode.routing.breaker import Breakers
from meshnode.routing.lately import Lately
from meshnode.routing.measure import Measurements
from meshnode.routing.offers import Offers
from meshnode.routing.path import Paths, same_view
from meshnode.routing.tree import Tree


class Known:
    """What choosing keeps between decisions: measurements, breakers, conversations, who was best of very many, and what
    was derived from the newest view."""

    def __init__(self, section: RoutingSection) -> None:
        self.paths = Paths(section.relay_penalty_s)
        self.measurements = Measurements(section)
        self.breakers = Breakers(section)
        self.affinity = Affinity(section)
        self.aperture = Aperture()
        self.lately = Lately()
        self._section = section
        self._offers: Offers | None = None
        self._view: View | None = None
        self._asked: dict[str, Asked] = {}

    def offers(self, view: View, now: float = 0.0) -> tuple[Tree, Offers]:
        """The ways and the offers of `view`, kept until the view changes."""
        tree = self.paths.tree(view)
        if self._offers is None or self._view is None or not same_view(view, self._view):
            before, self._offers = self._offers, Offers(view, tree, self._section, self._offers)
            self._note_gone(before, self._offers, now)
            self._view = view
            self._asked = {}
        return tree, self._offers

    def _note_gone(self, before: Offers | None, after: Offers, now: float) -> None:
        if before is not None and self._view is not None:
            for model in before.by_name.keys() - after.by_name.keys():
                servers = [self._view.name(candidate.node) for candidate in before.by_name[model]]
                self.lately.went(model, servers, now)

    def asked(self, model: str, view: View, offers: Offers, aliases: Aliases) -> Asked:
        """What a name means, with `offers` the newest. Kept for names that somebody offers, in either spelling."""
        found = self._asked.get(model)
        if found is None:
            found = read_name(model, view, offers, aliases)
            if found.model == model and found.candidates:
                self._asked[model] = found
        return found
