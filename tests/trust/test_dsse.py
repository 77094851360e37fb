"""DSSE: what is signed is the type and the payload, cut one way only; what others make is read, within bounds."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import DecodeError
from meshnode.trust import Envelope
from meshnode.trust.dsse import MAX_ENVELOPE_BYTES, MAX_SIGNATURES, Signature, pae
from tests.trust.people import OPERATOR, STRANGER

KIND = "http://example.com/HelloWorld"


def made(payload: bytes = b"hello world") -> Envelope:
    return Envelope.sign(KIND, payload, OPERATOR.public, OPERATOR.sign_envelope)


def test_the_encoding_is_the_specifications_own_example() -> None:
    assert pae(KIND, b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@given(st.text(max_size=20), st.binary(max_size=20), st.text(max_size=20), st.binary(max_size=20))
def test_no_two_pairs_have_one_encoding(kind: str, payload: bytes, other: str, another: bytes) -> None:
    assert (pae(kind, payload) == pae(other, another)) == ((kind, payload) == (other, another))


@given(st.binary(max_size=200))
def test_what_was_signed_opens_for_its_signer_alone(payload: bytes) -> None:
    envelope = Envelope.unpack(made(payload).pack())
    assert envelope.open(KIND, {STRANGER.public, OPERATOR.public}) == (payload, OPERATOR.public)
    assert envelope.open(KIND, {STRANGER.public}) is None
    assert envelope.open(KIND, ()) is None


def test_another_type_is_another_signature() -> None:
    assert made().open("text/plain", {OPERATOR.public}) is None
    relabelled = msgspec.structs.replace(made(), kind="text/plain")
    assert relabelled.open("text/plain", {OPERATOR.public}) is None


def test_another_payload_is_refused() -> None:
    changed = msgspec.structs.replace(made(), payload=base64.b64encode(b"hello mars").decode())
    assert changed.open(KIND, {OPERATOR.public}) is None


def test_the_key_id_is_only_a_hint() -> None:
    [signature] = made().signatures
    for hint in ("", "somebody's", STRANGER.id.text):
        hinted = msgspec.structs.replace(made(), signatures=(Signature(signature.sig, hint),))
        opened = hinted.open(KIND, {OPERATOR.public})
        assert opened == (b"hello world", OPERATOR.public)


def test_a_second_signer_is_found() -> None:
    other = Envelope.sign(KIND, b"hello world", STRANGER.public, STRANGER.sign_envelope)
    both = msgspec.structs.replace(made(), signatures=(*other.signatures, *made().signatures))
    assert both.open(KIND, {OPERATOR.public}) == (b"hello world", OPERATOR.public)


def test_url_safe_base64_is_read_too() -> None:
    envelope = made(b"\xff\xfe\xfb\xff")
    safe = msgspec.structs.replace(envelope, payload=envelope.payload.translate(str.maketrans("+/", "-_")))
    assert safe.payload != envelope.payload
    assert safe.open(KIND, {OPERATOR.public}) == (b"\xff\xfe\xfb\xff", OPERATOR.public)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b'{"payload":"","payloadType":"t","signatures":[]}',
        b'{"payload":1,"payloadType":"t","signatures":[{"sig":""}]}',
        b'{"payload":"","payloadType":"t","signatures":[' + b",".join([b'{"sig":""}'] * (MAX_SIGNATURES + 1)) + b"]}",
        b'{"payload":"' + b"A" * MAX_ENVELOPE_BYTES + b'","payloadType":"t","signatures":[{"sig":""}]}',
        b"[" * 10_000,
    ],
)
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Envelope.unpack(data)


def test_what_is_no_base64_is_refused() -> None:
    with pytest.raises(DecodeError):
        msgspec.structs.replace(made(), payload="!").open(KIND, {OPERATOR.public})
