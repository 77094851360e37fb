"""Hard filters: nobody ineligible gets through, and everybody left out has a reason that is true."""

from __future__ import annotations

import dataclasses
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.model.job import Demands, Job, Label
from meshnode.model.posture import Posture
from meshnode.model.view import View
from meshnode.routing import LocalState, Plan, Router, Tree
from tests.routing.build import ME, NOTHING, SECTION, job, mesh, node, offer, router, serving, star

NODES = 7


@st.composite
def meshes(draw: st.DrawFn) -> View:
    pairs = [(a, b) for a in range(NODES) for b in range(a)]
    links = [(a, b, draw(st.integers(1, 100))) for a, b in draw(st.lists(st.sampled_from(pairs), unique=True))]
    names = st.sampled_from(["llama", "llama:latest", "qwen"])
    offers = st.builds(
        offer,
        names,
        st.sampled_from([0, 100, 1000]),
        features=st.sampled_from([("chat",), ("chat", "tools"), ("chat", "vision", "tools")]),
        slots=st.integers(0, 4),
        loaded=st.booleans(),
    )
    changes = {
        n: {
            "models": tuple(draw(st.lists(offers, max_size=2, unique_by=lambda one: one.name))),
            "relay": draw(st.integers(0, 3)) > 0,
            "draining": draw(st.integers(0, 5)) == 0,
            "gone": n > 0 and draw(st.integers(0, 8)) == 0,
            "posture": draw(st.sampled_from(["claimed", "attested"])),
        }
        for n in range(NODES)
    }
    return mesh(links, NODES, changes)


jobs = st.builds(
    lambda model, needs, prompt, hops, label, passed: dataclasses.replace(
        job(model, needs=frozenset({"chat", *needs}), prompt_tokens=prompt, hops_left=hops), label=label, path=passed
    ),
    st.sampled_from(["llama", "llama:latest", "qwen", "llama@n1", "gone"]),
    st.sets(st.sampled_from(["tools", "vision"])),
    st.sampled_from([10, 100, 500, 5000]),
    st.integers(1, 4),
    st.sampled_from(Label),
    st.sampled_from([(), (node(2),)]),
)

states = st.sampled_from([NOTHING, serving(), LocalState({"llama:latest": serving().models["llama"]})])


@st.composite
def routers(draw: st.DrawFn) -> Router:
    made = router()
    for number in draw(st.sets(st.integers(0, NODES - 1))):
        for _ in range(5):
            made.known.breakers.failed(node(number), "llama", 0.0)
    return made


def may_serve(
    view: View, asked: Job, number: int, model: str, local: LocalState, breakers: bool, router: Router
) -> bool:
    """Eligibility in the plainest words."""
    advert = view.adverts[node(number)]
    name, _, pin = asked.facts.model.partition("@")
    offered = next((one for one in advert.models if one.name == model), None)
    reach = Tree(view, SECTION.relay_penalty_s).reach(node(number), asked.hops_left)
    return (
        offered is not None
        and model.removesuffix(":latest") == name.removesuffix(":latest")
        and pin in ("", advert.name)
        and asked.facts.needs <= set(offered.features)
        and (offered.context == 0 or asked.facts.prompt_tokens <= offered.context)
        and (asked.label is not Label.SENSITIVE or number == 0)
        and node(number) not in asked.path
        and not advert.draining
        and not advert.gone
        and reach is not None
        and (number != 0 or model in local.models)
        and (not breakers or (node(number), model) not in router.known.breakers.shut_out((model,), 1.0))
    )


def named_offers(view: View, model: str) -> list[tuple[int, str]]:
    """Every living node that offers the model, with the spelling nearest to the one asked for."""
    name = model.partition("@")[0]
    found = []
    for number in range(NODES):
        advert = view.adverts[node(number)]
        names = {one.name for one in advert.models}
        spelled = [one for one in (name, f"{name}:latest", name.removesuffix(":latest")) if one in names]
        if spelled and not advert.gone:
            found.append((number, spelled[0]))
    return found


def consider(router: Router, asked: Job, view: View, local: LocalState) -> Plan:
    return router.consider(asked, view, local, Random(1), 1.0)


@settings(deadline=None, max_examples=300)
@given(meshes(), jobs, states, routers())
def test_nobody_ineligible_is_tried_and_everybody_left_out_has_a_reason(
    view: View, asked: Job, local: LocalState, router: Router
) -> None:
    plan = consider(router, asked, view, local)
    offers = named_offers(view, asked.facts.model)
    able = [one for one in offers if may_serve(view, asked, *one, local, False, router)]
    healthy = [one for one in able if may_serve(view, asked, *one, local, True, router)]
    expected = {node(number) for number, _ in (healthy or able)}
    assert bool(plan.attempts) == bool(expected) == (plan.refusal is None)
    assert {attempt.node for attempt in plan.attempts} <= expected
    assert len(plan.attempts) == min(3, len(expected))
    assert {exclusion.node for exclusion in plan.exclusions} == {node(n) for n, _ in offers} - expected
    assert all(exclusion.code and exclusion.text for exclusion in plan.exclusions)


@settings(deadline=None, max_examples=150)
@given(meshes(), jobs, states, routers(), st.randoms(use_true_random=False))
def test_the_order_of_what_is_known_does_not_matter(
    view: View, asked: Job, local: LocalState, router: Router, random: Any
) -> None:
    items = list(view.adverts.items())
    random.shuffle(items)
    shuffled = dataclasses.replace(view, adverts=dict(items), version=view.version + 10**6)
    one, other = consider(router, asked, view, local), consider(router, asked, shuffled, local)
    assert (one.attempts, one.exclusions, one.reason) == (other.attempts, other.exclusions, other.reason)


def codes(router: Router, asked: Job, view: View, local: LocalState = NOTHING) -> dict[int, str]:
    plan = consider(router, asked, view, local)
    return {exclusion.node[1]: exclusion.code for exclusion in plan.exclusions}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"models": (offer(features=("chat",)),)}, "feature"),
        ({"models": (offer(context=99, features=("chat", "tools")),)}, "context"),
        ({"draining": True}, "draining"),
        ({"name": "other"}, None),
        ({"models": (offer(context=0, features=("chat", "tools")),)}, None),
    ],
)
def test_the_reason_is_the_one_that_holds(change: dict[str, Any], code: str | None) -> None:
    able = {"models": (offer(features=("chat", "tools")),)}
    view = star(2, {1: able, 2: {**able, **change}})
    asked = job(needs=frozenset({"chat", "tools"}), prompt_tokens=100)
    assert codes(router(), asked, view) == ({} if code is None else {2: code})


def test_the_text_says_which_feature_is_missing() -> None:
    plan = consider(router(), job(needs=frozenset({"chat", "tools", "vision"})), star(1), NOTHING)
    assert plan.exclusions[0].text == "serves llama without tools, vision"


def test_unreachable_is_not_too_far() -> None:
    view = mesh([(0, 1, 5), (1, 2, 5)], 4, {0: {"models": ()}})
    assert codes(router(), job(hops_left=1), view) == {2: "hops", 3: "unreachable"}


def test_a_longer_but_shorter_way_serves_where_hops_are_few() -> None:
    view = mesh([(0, 1, 5), (1, 2, 5), (0, 2, 200)], changes={0: {"models": ()}, 1: {"models": ()}})
    paths = [consider(router(), job(hops_left=hops), view, NOTHING).attempts[0].path for hops in (1, 2)]
    assert paths == [(ME, node(2)), (ME, node(1), node(2))]


def test_a_sensitive_request_stays_here_whatever_posture_others_claim() -> None:
    view = mesh([(0, 1, 5)], changes={1: {"posture": "attested"}})
    asked = dataclasses.replace(job(), label=Label.SENSITIVE)
    plan = consider(router(), asked, view, serving())
    assert [attempt.node for attempt in plan.attempts] == [ME]
    assert codes(router(), asked, view, serving()) == {1: "label"}
    assert consider(router(), asked, view, NOTHING).attempts == ()


def test_this_node_is_left_out_while_its_engine_is_not_ready() -> None:
    assert codes(router(), job(), mesh([(0, 1, 5)])) == {0: "engine"}


@pytest.mark.parametrize("pin", ["n2", node(2).short, node(2).text])
def test_a_pin_by_name_or_id_leaves_one_node(pin: str) -> None:
    plan = consider(router(), job(f"llama@{pin}"), star(3), NOTHING)
    assert [attempt.node for attempt in plan.attempts] == [node(2)]
    assert {exclusion.node[1]: exclusion.code for exclusion in plan.exclusions} == {1: "model", 3: "model"}


def test_an_at_sign_may_belong_to_the_name() -> None:
    view = star(2, {1: {"models": (offer("llama@n2"),)}})
    assert [attempt.node for attempt in consider(router(), job("llama@n2"), view, NOTHING).attempts] == [node(1)]


def test_the_spelling_a_node_offers_is_the_one_it_is_asked_for() -> None:
    view = star(2, {1: {"models": (offer("llama:latest"),)}, 2: {"models": (offer("llama"), offer("llama:latest"))}})
    plan = consider(router(), job("llama"), view, NOTHING)
    assert {attempt.node[1]: attempt.model for attempt in plan.attempts} == {1: "llama:latest", 2: "llama"}


def test_a_breaker_shuts_one_out_but_never_the_last() -> None:
    made = router()
    for _ in range(5):
        made.known.breakers.failed(node(1), "llama", 0.0)
    assert codes(made, job(), star(2)) == {1: "breaker"}
    for _ in range(5):
        made.known.breakers.failed(node(2), "llama", 0.0)
    plan = consider(made, job(), star(2), NOTHING)
    assert {attempt.node for attempt in plan.attempts} == {node(1), node(2)}


@settings(deadline=None, max_examples=200)
@given(meshes(), jobs, states, routers(), st.sets(st.integers(0, NODES - 1)), st.sets(st.integers(0, NODES - 1)))
def test_whatever_is_known_no_attempt_takes_what_is_sensitive_to_an_unvouched_node(
    view: View, asked: Job, local: LocalState, router: Router, attested: set[int], pinned: set[int]
) -> None:
    signed = {node(number): Posture.SIGNED_WEIGHTS for number in range(NODES)}
    view = dataclasses.replace(
        view,
        postures=signed | {node(number): Posture.ATTESTED for number in attested},
        pinned=frozenset(map(node, pinned)),
    )
    asked = dataclasses.replace(asked, label=Label.SENSITIVE)
    plan = consider(router, asked, view, local)
    allowed = {ME} | {node(number) for number in attested | pinned}
    assert {attempt.node for attempt in (*plan.attempts, *plan.others)} <= allowed
    assert plan.attempts or plan.refusal is not None


def demanding(view: View, **demands: Any) -> dict[int, str]:
    return codes(router(), dataclasses.replace(job(), demands=Demands(**demands)), view)


def test_what_is_asked_of_servers_leaves_out_who_does_not_show_it() -> None:
    view = star(
        4,
        {
            1: {"models": (offer(quant="Q4_K_M"),), "price_micro_per_mtok": 500_000},
            2: {"models": (offer(quant="Q8_0"),), "owner": "ada"},
            3: {"owner": "bob"},
            4: {"owner": "eve", "owner_only": True},
        },
    )
    assert demanding(view, quant_bits=5) == {1: "quant", 3: "quant", 4: "quant"}
    assert demanding(view, most_price_micro=499_999) == {1: "price", 4: "isolation"}
    assert demanding(view) == {4: "isolation"}
    ours = dataclasses.replace(job(), owner="ada", demands=Demands(own_machines=True))
    assert codes(router(), ours, view) == {1: "isolation", 3: "isolation", 4: "isolation"}


def test_a_machine_that_serves_its_owner_alone_is_asked_by_its_owners_nodes_only() -> None:
    """Whoever has eve's key of another's node asks in her name, which no certificate of that node backs."""
    apart = {1: {"owner": "eve", "owner_only": True}}
    eves = dataclasses.replace(job(), owner="eve")
    assert codes(router(), eves, star(1, apart)) == {1: "isolation"}
    assert codes(router(), eves, star(1, {**apart, 0: {"models": (), "owner": "eve"}})) == {}


@pytest.mark.parametrize(("asker", "excluded"), [("", {}), ("ada", {}), ("eve", {0: "isolation"})])
def test_this_node_is_its_owners_machine_and_no_other_key_holders(asker: str, excluded: dict[int, str]) -> None:
    view = star(1, {0: {"models": (offer(),), "owner": "ada"}, 1: {"owner": asker or "ada"}})
    ours = dataclasses.replace(job(), owner=asker, demands=Demands(own_machines=True))
    assert codes(router(), ours, view, serving()) == excluded
    alone = star(1, {0: {"models": (offer(),), "owner": "ada", "owner_only": True}})
    assert codes(router(), dataclasses.replace(job(), owner=asker), alone, serving()) == excluded


def test_a_configured_node_may_serve_what_is_sensitive() -> None:
    made = router(dataclasses.replace(SECTION, sensitive_nodes=(node(2).text,)))
    asked = dataclasses.replace(job(), label=Label.SENSITIVE)
    assert [attempt.node for attempt in consider(made, asked, star(3), NOTHING).attempts] == [node(2)]
