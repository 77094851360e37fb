"""What opens a tunnel, from its origin over relays to the target, and what is refused on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from meshnode.errors import DecodeError, HandshakeFailed, LinkError
from meshnode.mesh import exchange, opening
from meshnode.mesh.opening import Opening
from meshnode.model.ids import NodeId
from meshnode.net import Link, LinkStream
from meshnode.routing.tree import MOST_HOPS
from tests.gossip.world import node_id
from tests.net.kit import linked

A, B, C, D = (node_id(number) for number in range(4))
NODES = st.sampled_from([A, B, C, D])


@st.composite
def openings(draw: st.DrawFn) -> Opening:
    path = draw(st.lists(NODES, min_size=1, max_size=MOST_HOPS))
    hops_left = draw(st.integers(0, MOST_HOPS - len(path)))
    text = draw(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64))
    return Opening(text, path[0], draw(NODES), hops_left, tuple(path))


def at_origin(hops_left: int = MOST_HOPS) -> Opening:
    return Opening("t1", A, D, hops_left, ())


@given(openings())
def test_what_was_written_is_read_back(said: Opening) -> None:
    assert opening.read(dict(said.headers())) == said


@given(openings())
def test_each_hop_has_one_hop_less_and_is_in_the_path(said: Opening) -> None:
    further = said.onward(B)
    assert (further.hops_left, further.path) == (said.hops_left - 1, (*said.path, B))
    assert (further.id, further.origin, further.target) == (said.id, said.origin, said.target)


@pytest.mark.parametrize("text", [" 1", "1_0", "+1", "01", "-0", "\u0661"])
def test_hops_are_read_in_the_one_way_they_are_written(text: str) -> None:
    headers = dict(at_origin().onward(A).headers())
    with pytest.raises(DecodeError):
        opening.read({**headers, "meshnode-hops": text})


def test_it_ends_after_the_most_hops_whatever_relays_do() -> None:
    said, links = at_origin(), 0
    while True:
        said = said.onward(A if not said.path else B)
        try:
            assert opening.read(dict(said.headers())) == said
        except DecodeError:
            break
        links += 1
    assert links == MOST_HOPS


@pytest.mark.parametrize(
    "change",
    [
        {"meshnode-tunnel": ""},
        {"meshnode-tunnel": "x" * 65},
        {"meshnode-hops": "-1"},
        {"meshnode-hops": str(MOST_HOPS)},
        {"meshnode-hops": "many"},
        {"meshnode-hops": "1" * 5000},
        {"meshnode-origin": B.text},
        {"meshnode-target": "nobody"},
        {"meshnode-path": ""},
        {"meshnode-path": ",".join([A.text] * (MOST_HOPS + 1))},
        {"meshnode-path": B.text},
    ],
)
def test_what_no_node_writes_is_refused(change: dict[str, str]) -> None:
    headers = dict(at_origin(4).onward(A).headers())
    assert opening.read(headers)
    with pytest.raises(DecodeError):
        opening.read({**headers, **change})
    for name in change:
        with pytest.raises(DecodeError):
            opening.read({key: value for key, value in headers.items() if key != name})


# Asking over a link.


ASKED = at_origin(4).onward(A)


async def asked(serve: object) -> tuple[NodeId, ...]:
    """The way that comes back where `serve` answers."""
    outcome: tuple[NodeId, ...] | LinkError
    async with linked(serve) as pair:  # type: ignore[arg-type]
        try:
            stream, outcome = await opening.ask(pair.dialer, ASKED)
            stream.reset()
        except LinkError as error:
            outcome = error
    if isinstance(outcome, LinkError):
        raise outcome
    return outcome


async def test_the_way_is_known_once_the_target_has_accepted(autojump_clock: MockClock) -> None:
    met: list[Opening] = []

    async def serve(link: Link, stream: LinkStream) -> None:
        met.append(opening.read(await stream.head()))
        await opening.accept(stream, (A, B, D))

    assert await asked(serve) == (A, B, D)
    assert met == [ASKED]


@pytest.mark.parametrize(
    "way", [(A, B), (B, D), (A,), (A, *[B] * MOST_HOPS, D)], ids=["elsewhere", "from another", "nowhere", "too long"]
)
async def test_a_way_that_does_not_go_on_from_what_was_asked_is_nonsense(
    autojump_clock: MockClock, way: tuple[NodeId, ...]
) -> None:
    async def serve(link: Link, stream: LinkStream) -> None:
        await stream.head()
        await opening.accept(stream, way)

    with pytest.raises(HandshakeFailed, match="answered a tunnel with nonsense"):
        await asked(serve)


async def test_a_refusal_is_told_in_its_words_without_what_moves_a_terminal(autojump_clock: MockClock) -> None:
    async def serve(link: Link, stream: LinkStream) -> None:
        await stream.head()
        await exchange.refuse(stream, "this node\x1b[31m relays nothing")

    with pytest.raises(HandshakeFailed, match=r"^this node\[31m relays nothing$"):
        await asked(serve)


@pytest.mark.parametrize(("words", "why"), [("", "without a word"), ("x" * 3000, "nonsense")])
async def test_a_refusal_without_words_or_with_too_many_is_one(autojump_clock: MockClock, words: str, why: str) -> None:
    async def serve(link: Link, stream: LinkStream) -> None:
        await stream.head()
        await exchange.refuse(stream, words)

    with pytest.raises(HandshakeFailed, match=why):
        await asked(serve)


async def test_a_stream_that_breaks_is_the_links_error(autojump_clock: MockClock) -> None:
    async def serve(link: Link, stream: LinkStream) -> None:
        stream.reset()

    with pytest.raises(LinkError):
        await asked(serve)
