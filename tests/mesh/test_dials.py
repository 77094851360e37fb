"""What the overlay hears of a dial, and what people hear of peers that cannot be dialled: each thing once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import structlog

from meshnode.errors import AlreadyLinked, HandshakeFailed, LinkClosed, LinkError, LinkRefused
from meshnode.gossip.overlay_events import Dial, Event, Failed, Linked
from meshnode.gossip.targets import Key
from meshnode.mesh.dials import MOST_TOLD, Complaints, Dials
from meshnode.model.ids import NodeId
from meshnode.net import Authenticated
from tests.net.kit import ALICE, BOB

NAMED = "named:1"
SILENCE = HandshakeFailed("nobody answers")


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def warnings(lines: list[Any]) -> list[str]:
    return [line["event"] for line in lines if line["log_level"] == "warning"]


class Around:
    """What a Dials is handed: `answers` is what dialling ends in, `takes` whether the link is taken."""

    def __init__(self, answers: NodeId | Exception, *, takes: bool | Exception = True) -> None:
        self.answers, self.takes = answers, takes
        self.expected: list[NodeId | None] = []
        self.said: list[Event] = []
        self.complaints = Complaints((NAMED,))
        self.dials = Dials(self._connect, self._ask, self._live, self.said.append, self.complaints)

    async def _connect(self, addresses: tuple[str, ...], expected: NodeId | None) -> Authenticated:
        self.expected.append(expected)
        if isinstance(self.answers, Exception):
            raise self.answers
        return Authenticated(cast("Any", None), cast("Any", None), self.answers, "member", True)

    async def _live(self, found: Authenticated, target: Key | None) -> bool:
        if isinstance(self.takes, Exception):
            raise self.takes
        return self.takes

    async def _ask(self, peer: NodeId) -> None:
        if isinstance(self.answers, Exception):
            raise self.answers


# What the overlay hears.


@pytest.mark.parametrize(("target", "expected"), [(NAMED, None), (BOB, BOB)])
async def test_a_link_that_was_taken_tells_of_itself(target: Key, expected: NodeId | None) -> None:
    around = Around(BOB)
    await around.dials.dial(Dial(target, ("a:1",)))
    assert around.expected == [expected]
    assert around.said == []


async def test_a_peer_that_is_not_taken_is_a_failure_and_who_it_was_is_said() -> None:
    around = Around(BOB, takes=False)
    await around.dials.dial(Dial(NAMED, ("a:1",)))
    assert around.said == [Failed(NAMED, BOB)]


async def test_finding_a_peer_that_is_linked_is_no_failure(logged: list[Any]) -> None:
    around = Around(AlreadyLinked(bytes(BOB)))
    await around.dials.dial(Dial(NAMED, ("a:1",)))
    assert around.said == [Linked(BOB, NAMED, None, "")]
    assert logged == []


@pytest.mark.parametrize("takes", [LinkClosed("the other end left"), ValueError("a fault of ours")])
async def test_whatever_goes_wrong_is_one_failure(takes: Exception) -> None:
    around = Around(BOB, takes=takes)
    await around.dials.dial(Dial(BOB, ("a:1",)))
    assert around.said == [Failed(BOB)]


async def test_a_crash_is_logged_by_its_place_and_not_by_its_words(logged: list[Any]) -> None:
    around = Around(ValueError("a secret"))
    await around.dials.dial(Dial(BOB, ("a:1",)))
    await around.dials.ask(BOB)
    assert [(line["log_level"], line["error"]) for line in logged] == [("error", "ValueError")] * 2
    assert "a secret" not in str(logged)
    assert around.said == [Failed(BOB)]


# What people hear.


def missed(complaints: Complaints, target: Key, error: LinkError = SILENCE) -> None:
    complaints.missed(Dial(target, ("a:1",)), error)


def test_that_a_named_peer_does_not_answer_is_said_once_until_it_has_answered(logged: list[Any]) -> None:
    complaints = Complaints((NAMED,))
    missed(complaints, NAMED)
    missed(complaints, NAMED)
    assert warnings(logged) == ["a peer cannot be reached"]
    assert "its address is right" in logged[0]["do"]
    complaints.reached(NAMED)
    missed(complaints, NAMED)
    assert len(warnings(logged)) == 2


def test_that_others_do_not_answer_is_no_news(logged: list[Any]) -> None:
    missed(Complaints((NAMED,)), BOB)
    assert warnings(logged) == []
    assert [line["event"] for line in logged] == ["a peer cannot be reached"]


def test_what_is_no_news_takes_no_place(logged: list[Any]) -> None:
    complaints = Complaints((NAMED,))
    missed(complaints, BOB)
    assert complaints._missed == set()


def test_that_anybody_refuses_this_node_is_said_once_and_not_hidden_by_its_silence(logged: list[Any]) -> None:
    complaints = Complaints((NAMED,))
    for target in (BOB, NAMED):
        missed(complaints, target)
        missed(complaints, target, LinkRefused("revoked"))
        missed(complaints, target, LinkRefused("revoked"))
    told = [line for line in logged if line["log_level"] == "warning"]
    assert [line["reason"] for line in told] == ["revoked", "nobody answers", "revoked"]
    assert "what it says of this node" in told[0]["do"]


def test_that_a_peer_is_refused_here_is_said_once_for_each_reason_whatever_the_seconds(logged: list[Any]) -> None:
    complaints = Complaints(())
    for reason in ("shut out for 59 s", "shut out for 8 s", "revoked", "revoked", "shut out for 3 s"):
        complaints.refused(ALICE, reason)
    assert [line["reason"] for line in logged if line["log_level"] == "warning"] == [
        "shut out for 59 s",
        "revoked",
        "shut out for 3 s",
    ]


def test_what_was_said_is_remembered_of_so_many_and_then_the_log_is_quiet(logged: list[Any]) -> None:
    complaints = Complaints(())
    peers = [NodeId(number.to_bytes(32, "big")) for number in range(MOST_TOLD + 10)]
    for peer in peers:
        complaints.refused(peer, "revoked")
    assert len(complaints._refused) == MOST_TOLD
    # The first ones are forgotten, and told again; those of late are not.
    logged.clear()
    complaints.refused(peers[-1], "revoked")
    complaints.refused(peers[0], "revoked")
    assert [line["peer"] for line in logged if line["log_level"] == "warning"] == [peers[0].short]
    for peer in peers:
        missed(complaints, peer, LinkRefused("revoked"))
    assert len(complaints._missed) == MOST_TOLD
