"""The last door: asked after the mesh, paid for however it ends, and never in place of an honest refusal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshnode.config.cloud import CloudModel, CloudProvider, CloudSection
from meshnode.config.dispatch import DispatchSection
from meshnode.dialects.sse import Usage
from meshnode.dispatch.journal import Entry, brief, report
from meshnode.dispatch.outside import DAY_S, Outside
from meshnode.dispatch.watch import Watch
from meshnode.errors import (
    BadRequest,
    ContextExceeded,
    DeadlineExceeded,
    EngineFailed,
    Forbidden,
    ModelNotFound,
    NoEligibleNode,
    Overloaded,
    RequestError,
)
from meshnode.model.ids import NodeId
from meshnode.model.job import Facts, Job, Label
from meshnode.routing.fallback import Fallback, Spent
from tests.routing.build import star

MODELS = (CloudModel("large", input_price=1.0, output_price=1.0),)
SECTION = CloudSection(
    tuple(CloudProvider(name, "https://x.example", MODELS) for name in ("first", "second")), label="internal", budget=1
)
REFUSED = ModelNotFound("The model 'large' does not exist in this mesh.")


class Answer:
    status = 200
    headers: Mapping[str, str] = {"content-type": "application/json", "set-cookie": "theirs"}
    trailers: Mapping[str, str] = {}

    def __init__(self, *pieces: bytes, error: RequestError | None = None, usage: Usage | None = None) -> None:
        self._pieces = list(pieces)
        self._error = error
        self.usage = usage
        self.closed = False

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._pieces:
            return self._pieces.pop(0)
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


class Account:
    def __init__(self, serve: Callable[[], Any]) -> None:
        self._serve = serve
        self.asked: list[str] = []
        self.closed = False

    async def serve(self, job: Job, model: str) -> Any:
        self.asked.append(model)
        await trio.lowlevel.checkpoint()
        found = self._serve()
        if isinstance(found, Exception):
            raise found
        if found is None:
            await trio.sleep_forever()
        return found

    def close(self) -> None:
        self.closed = True


class Place:
    """An Outside of two accounts, at noon of day 20,000, and what came of it."""

    def __init__(self, *serves: Callable[[], Any], section: CloudSection = SECTION) -> None:
        self.accounts = dict(zip(("first", "second"), map(Account, serves), strict=False))
        self.fallback = Fallback(section)
        self.saved: list[Spent] = []
        self.settled: list[tuple[str, str, str]] = []
        self.outside = Outside(
            self.fallback,
            self.accounts,  # type: ignore[arg-type]
            self.saved.append,
            Watch(),
            DispatchSection(),
            lambda: 20_000.5 * DAY_S,
        )

    async def ask(self, refused: RequestError = REFUSED, **job: Any) -> Any:
        asked = self.job(**job)
        self.entry = Entry(asked, trio.current_time())
        return await self.outside.dispatch(asked, refused, self.entry, lambda *told: self.settled.append(told))

    @staticmethod
    def job(**fields: Any) -> Job:
        job = Job(
            "j", "/v1/chat/completions", b"{}", Facts("large", prompt_tokens=10, max_tokens=5), NodeId(bytes(32)), 60.0
        )
        return dataclasses.replace(job, **fields)

    @property
    def micro(self) -> int:
        return self.fallback.spent.micro


async def whole(answer: Any) -> bytes:
    return b"".join([data async for data in answer])


async def test_an_answer_says_where_it_came_from_and_is_paid_for(autojump_clock: MockClock) -> None:
    place = Place(lambda: Answer(b"a", b"b", usage=Usage(7, 3)))
    answer = await place.ask()
    assert answer.headers["x-meshnode-node"] == "first" and answer.headers["x-meshnode-privacy"] == "outside"
    assert "model_not_found" in answer.headers["x-meshnode-reason"] and "set-cookie" not in answer.headers
    assert await whole(answer) == b"ab"
    assert (place.micro, place.settled) == (10, [("large", "first", "ok")])


@pytest.mark.parametrize(
    ("refused", "goes"),
    [
        (REFUSED, True),
        (Overloaded("full"), True),
        (EngineFailed("down"), True),
        (ContextExceeded("long"), True),
        (BadRequest("wrong"), False),
        (Forbidden("no"), False),
        (DeadlineExceeded("late"), False),
    ],
)
async def test_only_what_another_server_may_cure_goes_out(
    autojump_clock: MockClock, refused: RequestError, goes: bool
) -> None:
    place = Place(lambda: Answer(b"a"))
    if goes:
        await (await place.ask(refused)).aclose()
    else:
        with pytest.raises(type(refused)):
            await place.ask(refused)
    assert bool(place.accounts["first"].asked) is goes


async def test_what_is_sensitive_stays_and_the_error_says_so(autojump_clock: MockClock) -> None:
    place = Place(lambda: Answer(b"a"))
    with pytest.raises(NoEligibleNode, match="outside the mesh, and the request is sensitive"):
        await place.ask(ModelNotFound("no such model."), label=Label.SENSITIVE)
    with pytest.raises(Overloaded, match=r"^full\. Outside the mesh: first is outside the mesh, and"):
        await place.ask(Overloaded("full."), label=Label.SENSITIVE)
    assert not place.accounts["first"].asked


async def test_the_next_provider_is_asked_where_one_fails_and_failing_costs_nothing(autojump_clock: MockClock) -> None:
    place = Place(lambda: Overloaded("busy"), lambda: Answer(b"a", usage=Usage(1, 1)))
    answer = await place.ask()
    assert (await whole(answer), answer.headers["x-meshnode-node"]) == (b"a", "second")
    assert place.micro == 2


async def test_who_was_asked_outside_and_who_answered_is_told(autojump_clock: MockClock) -> None:
    place = Place(lambda: Overloaded("busy"), lambda: Answer(b"a", b"b", usage=Usage(1, 1)))
    answer = await place.ask()
    assert await whole(answer) == b"ab"
    told = report(place.entry, star(1), trio.current_time())
    assert (told["node"], told["chunks"], told["outcome"]) == ("second", 2, "ok")
    assert [(one["number"], one["node"], one["name"], one["outcome"]) for one in told["attempts"]] == [
        (1, None, "first", "overloaded"),
        (2, None, "second", "answered"),
    ]
    assert answer.headers["x-meshnode-attempts"] == str(brief(place.entry, star(1), 0.0)["attempts"]) == "2"


def test_who_would_be_asked_outside_can_be_told_before() -> None:
    place = Place()
    assert place.outside.explain(place.job(), REFUSED) == {"asked": ["first", "second"], "excluded": []}
    kept = place.outside.explain(place.job(label=Label.SENSITIVE), REFUSED)
    assert kept is not None and not kept["asked"] and "sensitive" in kept["excluded"][0]
    assert place.outside.explain(place.job(), NoEligibleNode("rules")) is None
    assert place.outside.explain(place.job(facts=Facts("another")), REFUSED) is None


async def test_when_all_fail_the_last_error_is_the_answer(autojump_clock: MockClock) -> None:
    place = Place(lambda: EngineFailed("one"), lambda: EngineFailed("two"))
    with pytest.raises(EngineFailed, match="two"):
        await place.ask()
    assert place.micro == 0


async def test_a_request_that_a_provider_calls_wrong_is_wrong(autojump_clock: MockClock) -> None:
    place = Place(lambda: BadRequest("wrong"), lambda: Answer(b"a"))
    with pytest.raises(BadRequest):
        await place.ask()
    assert not place.accounts["second"].asked


@pytest.mark.parametrize("error", [None, EngineFailed("cut")])
async def test_an_answer_that_is_left_or_cut_costs_the_most(
    autojump_clock: MockClock, error: RequestError | None
) -> None:
    place = Place(lambda: Answer(b"a", b"b", error=error, usage=Usage(1, 1)))
    answer = await place.ask()
    if error is not None:
        with pytest.raises(EngineFailed):
            await whole(answer)
    await answer.aclose()
    assert place.micro == 15
    assert place.settled == [("large", "first", "engine_failed" if error else "cancelled")]


async def test_a_provider_that_never_answers_is_given_up_in_time(autojump_clock: MockClock) -> None:
    place = Place(lambda: None)
    with pytest.raises(DeadlineExceeded, match="first did not answer in time"):
        await place.ask(deadline=trio.current_time() + 30)
    assert place.micro == 15


async def test_a_client_that_leaves_frees_what_was_set_aside(autojump_clock: MockClock) -> None:
    place = Place(lambda: None)
    with trio.move_on_after(1):
        await place.ask()
    assert (place.micro, place.fallback.state(20_000)["left"]) == (15, 1 - 15e-6)


async def test_requests_at_once_do_not_spend_the_same_money(autojump_clock: MockClock) -> None:
    place = Place(lambda: None, section=dataclasses.replace(SECTION, budget=20e-6, providers=SECTION.providers[:1]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.ask)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(NoEligibleNode, match="today's budget"):
            await place.ask(ModelNotFound("no such model."))
        nursery.cancel_scope.cancel()


async def test_each_sum_is_kept_the_last_one_too(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    place = Place(lambda: Answer(b"a", usage=Usage(2, 2)))
    async with trio.open_nursery() as running:
        await running.start(partial(place.outside.run))
        await whole(await place.ask())
        await trio.testing.wait_all_tasks_blocked(0.01)
        await whole(await place.ask())
        running.cancel_scope.cancel()
    assert place.saved[-1] == Spent(20_000, 8)
    assert place.accounts["first"].closed
