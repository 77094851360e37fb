"""What travels between nodes is read back as it was written, and nothing else is read."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.dispatch import wire
from meshnode.dispatch.wire import MAX_HOPS, Envelope
from meshnode.errors import DecodeError
from meshnode.model.ids import NodeId
from meshnode.model.job import Label, Priority
from meshnode.trust.claim import MAX_CHARACTERS

nodes = st.binary(min_size=32, max_size=32).map(NodeId)
words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    origin = draw(nodes)
    passed = draw(st.lists(nodes, max_size=4))
    path = (origin, *passed) if passed else ()
    return Envelope(
        id=draw(words),
        route="/v1/chat/completions",
        origin=origin,
        target=draw(nodes),
        attempt=draw(st.integers(1, 100)),
        remaining_s=draw(st.integers(0, 86_400_000)) / 1000,
        hops_left=draw(st.integers(1, MAX_HOPS - len(path) - 1)),
        path=path,
        label=draw(st.sampled_from(Label)),
        priority=draw(st.sampled_from(Priority)),
        owner=draw(st.one_of(st.just(""), words)),
        claim=draw(st.one_of(st.just(""), st.text("ABCabc/+=", max_size=MAX_CHARACTERS))),
        traceparent="",
    )


@given(envelopes())
@settings(deadline=None, max_examples=100)
def test_the_next_hop_reads_one_hop_less_and_the_sender_in_the_path(envelope: Envelope) -> None:
    me = envelope.origin if not envelope.path else NodeId(b"m" * 32)
    read = wire.read(wire.write(envelope, me))
    assert read.hops_left == envelope.hops_left - 1
    assert read.path == (*envelope.path, me)
    assert (read.id, read.origin, read.target, read.attempt) == (
        envelope.id, envelope.origin, envelope.target, envelope.attempt
    )  # fmt: skip
    assert read.remaining_s == pytest.approx(envelope.remaining_s, abs=0.002)
    assert (read.label, read.priority, read.owner) == (envelope.label, envelope.priority, envelope.owner)
    assert read.claim == envelope.claim


@given(envelopes(), st.data())
@settings(deadline=None, max_examples=200)
def test_garbled_headers_end_in_a_decode_error_or_in_an_envelope_within_bounds(
    envelope: Envelope, data: st.DataObject
) -> None:
    headers = dict(wire.write(envelope, envelope.origin))
    name = data.draw(st.sampled_from(sorted(headers)))
    if data.draw(st.booleans()):
        del headers[name]
    else:
        headers[name] = data.draw(st.text(max_size=60))
    try:
        read = wire.read(headers.items())
    except DecodeError:
        return
    assert 0 <= read.hops_left < MAX_HOPS
    assert len(read.path) + read.hops_left <= MAX_HOPS
    assert 0 <= read.remaining_s <= wire.MAX_REMAINING_S


def test_a_path_that_does_not_begin_with_the_origin_is_refused() -> None:
    me, other = NodeId(b"a" * 32), NodeId(b"b" * 32)
    envelope = Envelope("j", "/v1/x", me, other, 1, 1.0, 3, (), Label.PUBLIC, Priority.LOW, "", "")
    with pytest.raises(DecodeError):
        wire.read(wire.write(envelope, other))


@pytest.mark.parametrize("text", [" 1", "1_0", "+1", "01", "-0", "1.0", "", "\u0661", "1" * 10])
@pytest.mark.parametrize(
    "name", ["meshnode-attempt", "meshnode-hops", "meshnode-remaining-ms", "meshnode-first-token-ms"]
)
def test_numbers_are_read_in_the_one_way_they_are_written(name: str, text: str) -> None:
    me = NodeId(b"a" * 32)
    envelope = Envelope(
        "j", "/v1/x", me, me, 1, 1.0, 3, (), Label.PUBLIC, Priority.LOW, "", "", first_token_s=1.0, silence_s=1.0
    )
    headers = dict(wire.write(envelope, me))
    wire.read(headers.items())
    with pytest.raises(DecodeError):
        wire.read({**headers, name: text}.items())


@pytest.mark.parametrize("more", [("meshnode-choice", "no"), ("meshnode-queue", "")])
def test_a_switch_with_another_word_is_refused(more: tuple[str, str]) -> None:
    me = NodeId(b"a" * 32)
    envelope = Envelope("j", "/v1/x", me, me, 1, 1.0, 3, (), Label.SENSITIVE, Priority.LOW, "bob", "")
    with pytest.raises(DecodeError):
        wire.read([*wire.write(envelope, me), more])
