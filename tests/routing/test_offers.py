"""What is offered follows from view to view as if it were read anew, and keeps what did not change."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.model.posture import Posture
from meshnode.model.view import View
from meshnode.routing.known import Known
from meshnode.routing.offers import Candidate, Offers
from meshnode.routing.tree import Tree
from tests.routing.build import SECTION, mesh, node, offer, star

NODES = 6
PAIRS = [(a, b) for a in range(NODES) for b in range(a)]
NAMES = ["llama", "llama:latest", "qwen"]

DIGEST = b"d" * 32

offers = st.lists(
    st.builds(offer, st.sampled_from(NAMES), loaded=st.booleans(), digest=st.sampled_from([b"", DIGEST])), max_size=3
)
fields = st.fixed_dictionaries(
    {
        "models": offers.map(tuple),
        "draining": st.booleans(),
        "paused": st.booleans(),
        "owner": st.sampled_from(["", "ada"]),
    }
)
steps = st.tuples(
    st.dictionaries(st.integers(0, NODES - 1), fields, max_size=3),
    st.lists(st.tuples(st.sampled_from(PAIRS), st.integers(1, 50)), max_size=2),
    st.sets(st.integers(1, NODES - 1), max_size=1),
    st.sets(st.integers(1, NODES - 1), max_size=3),
    st.dictionaries(st.integers(1, NODES - 1), st.sampled_from(Posture), max_size=2),
    st.dictionaries(st.integers(1, NODES - 1), st.just(frozenset({DIGEST})), max_size=2),
)
"""News by node, links that moved; who is pinned, who is away, and what was verified of whom."""


def seen(made: Offers) -> dict[str, list[dict[str, Any]]]:
    names = sorted(made.by_name) + NAMES
    return {name: [dataclasses.asdict(one) for one in made.named(name)] for name in names}


@settings(deadline=None, max_examples=200)
@given(st.lists(steps, min_size=2, max_size=6))
def test_following_reads_as_anew(story: list[Any]) -> None:
    known = Known(SECTION)
    told: dict[int, dict[str, Any]] = {}
    links: dict[tuple[int, int], int] = {(1, 0): 5, (2, 1): 5}
    before: View | None = None
    for news, moved, pinned, away, postures, weights in story:
        told.update(news)
        links.update(moved)
        view = mesh([(a, b, ms) for (a, b), ms in links.items()], NODES, told)
        if before is not None:
            old = before.adverts
            same = {n: old[n] if n in old and old[n] == advert else advert for n, advert in view.adverts.items()}
            view = dataclasses.replace(view, adverts=same)
        view = dataclasses.replace(
            view,
            adverts={n: advert for n, advert in view.adverts.items() if n not in set(map(node, away))},
            pinned=frozenset(map(node, pinned)),
            postures={node(number): posture for number, posture in postures.items()},
            weights={node(number): digests for number, digests in weights.items()},
        )
        _, followed = known.offers(view)
        assert seen(followed) == seen(Offers(view, Tree(view, SECTION.relay_penalty_s), SECTION))
        before = view


def listed(known: Known, view: View, name: str) -> list[Candidate]:
    return known.offers(view)[1].named(name)


def test_lists_in_which_nothing_changed_are_kept() -> None:
    known = Known(SECTION)
    view = star(4, {1: {"models": (offer("qwen"),)}})
    qwen, llama = listed(known, view, "qwen"), listed(known, view, "llama")
    busy = msgspec.structs.replace(view.adverts[node(1)], models=(offer("qwen", loaded=False),))
    later = dataclasses.replace(view, adverts={**view.adverts, node(1): busy}, version=view.version + 1000)
    assert listed(known, later, "llama") is llama
    assert listed(known, later, "qwen") is not qwen
    assert not listed(known, later, "qwen")[0].loaded


def test_whoever_leaves_or_comes_changes_nothing_of_what_others_offer() -> None:
    known = Known(SECTION)
    view = star(4, {1: {"models": (offer("qwen"),)}})
    qwen, llama = listed(known, view, "qwen"), listed(known, view, "llama")
    left = {n: advert for n, advert in view.adverts.items() if n != node(1)}
    links = {n: rtt_s for n, rtt_s in view.links.items() if n != node(1)}
    without = dataclasses.replace(view, adverts=left, links=links, version=view.version + 1000)
    assert listed(known, without, "llama") is llama
    assert listed(known, without, "qwen") == []
    back = dataclasses.replace(view, version=view.version + 1001)
    assert listed(known, back, "llama") is llama
    assert list(map(dataclasses.asdict, listed(known, back, "qwen"))) == list(map(dataclasses.asdict, qwen))
