"""Attestation: evidence that answers one challenge on one link, judged by whichever verifier knows its type.

The nonce binds evidence to the verifier's challenge, to the handshake key of the link's other end and to its node, so
that it is worth nothing on another link or tomorrow. Shipped: an operator's signed statement. Not for when to ask
(ledger.py) nor for carrying (mesh.vouching). protocol.md §7.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol, Self

import msgspec
from msgspec import Meta

from meshnode.errors import EvidenceRefused
from meshnode.model import codec
from meshnode.model.ids import NodeId
from meshnode.trust.keys import Digest, Key, Sign, SignatureBytes, WallTime, verified

STATEMENT_CONTEXT = b"meshnode statement 1\x00"
ATTESTATION_CONTEXT = b"meshnode attestation 1\x00"

OPERATOR = "operator"
"""Type of the evidence that is shipped."""

FRESH_S = 3600
"""How long evidence counts at most, however long what it rests on lasts: who was well an hour ago is asked again."""

MAX_EVIDENCE_BYTES = 16 * 1024
"""An NVIDIA report with its certificates has 12 KiB, a TPM quote 2."""

MAX_TEXT = 256
"""A statement is a sentence."""

BACKDATING_S = 300
"""Clocks of two machines may differ by so much, as for certificates."""


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """The envelope: what kind of evidence, for which nonce, and the evidence, opaque but to its verifier."""

    type: Annotated[str, Meta(min_length=1, max_length=32)]
    nonce: Digest
    evidence: Annotated[bytes, Meta(max_length=MAX_EVIDENCE_BYTES)]

    def pack(self) -> bytes:
        """Canonical CBOR."""
        return codec.encode(self)


@dataclass(frozen=True, slots=True)
class Attested:
    """What was shown: by whose word or hardware, until when (wall-clock seconds), and in words."""

    by: str
    until: int
    text: str = ""


class Verifier(Protocol):
    """Judges evidence of one type. `nonce` is what the evidence must contain to be this challenge's."""

    def verify(self, evidence: bytes, nonce: bytes, node: NodeId, now: int) -> Attested:
        """Raises EvidenceRefused or DecodeError."""


def bound_nonce(challenge: bytes, link_key: bytes, node: NodeId) -> bytes:
    """SHA-256 of the verifier's 32 random bytes, the X25519 key that `node` showed in the link's handshake, its id."""
    if len(challenge) != 32 or len(link_key) != 32:
        raise EvidenceRefused("a challenge and a link's key have 32 bytes each")
    return hashlib.sha256(challenge + link_key + node).digest()


def judge(data: bytes, nonce: bytes, node: NodeId, verifiers: Mapping[str, Verifier], now: int) -> Attested:
    """What `node` has shown in answer to the challenge behind `nonce`, for an hour at most.

    Raises EvidenceRefused when it is another challenge's, of a type that nobody here verifies, forged or expired;
    DecodeError.
    """
    envelope = codec.decode(data, Evidence, limit=MAX_EVIDENCE_BYTES + 256)
    if envelope.nonce != nonce:
        raise EvidenceRefused("this evidence answers another challenge, another link's or another node's")
    verifier = verifiers.get(envelope.type)
    if verifier is None:
        raise EvidenceRefused(f"no verifier for evidence of type {envelope.type!r:.40} is enabled (trust.verifiers)")
    found = verifier.verify(envelope.evidence, nonce, node, now)
    # Verifiers may be others' code: an end that is no number would be none.
    if not isinstance(found, Attested) or type(found.until) is not int:
        raise EvidenceRefused(f"the verifier of {envelope.type!r:.40} does not say until when it attests")
    if found.until <= now:
        raise EvidenceRefused("this evidence has ended")
    return Attested(found.by, min(found.until, now + FRESH_S), found.text)


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """What an operator says of a node: that it is set up as `text` says, until `not_after`."""

    node: Key
    text: Annotated[str, Meta(max_length=MAX_TEXT)]
    not_before: WallTime
    not_after: WallTime


class SignedStatement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A statement's bytes, the operator's public key and signature: what a node keeps in its home."""

    body: Annotated[bytes, Meta(max_length=2048)]
    operator: Key
    signature: SignatureBytes

    @classmethod
    def sign(cls, statement: Statement, operator: bytes, sign: Sign) -> Self:
        """Signed with the key whose public half is `operator`."""
        body = codec.encode(statement)
        return cls(body, operator, sign(STATEMENT_CONTEXT, body))

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read what `pack` wrote, bounded. Raises DecodeError; the signature is not checked."""
        return codec.decode(data, cls, limit=4096)

    def pack(self) -> bytes:
        """Canonical CBOR."""
        return codec.encode(self)

    @property
    def statement(self) -> Statement:
        """What it says, unverified. Raises DecodeError."""
        return codec.decode(self.body, Statement, limit=2048)

    def check(self, node: NodeId, now: int) -> Statement:
        """What it says of `node` now. Raises EvidenceRefused, DecodeError."""
        if not verified(self.operator, STATEMENT_CONTEXT + self.body, self.signature):
            raise EvidenceRefused("the operator's statement is not signed by the operator that it names")
        said = self.statement
        if said.node != node:
            raise EvidenceRefused("the operator's statement is about another node")
        if not said.not_before - BACKDATING_S <= now < said.not_after:
            raise EvidenceRefused("the operator's statement does not count now: it has ended or begins later")
        return said


class _OperatorEvidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """The statement, and the node's own signature over the nonce: its key is there, now, at this link's end."""

    statement: SignedStatement
    signature: SignatureBytes


def prove(statement: SignedStatement, nonce: bytes, sign: Sign) -> bytes:
    """The node's answer to a challenge: the envelope, packed."""
    evidence = codec.encode(_OperatorEvidence(statement, sign(ATTESTATION_CONTEXT, nonce)))
    return Evidence(OPERATOR, nonce, evidence).pack()


class OperatorVerifier:
    """Believes statements of these operators (public keys, from the configuration)."""

    def __init__(self, operators: Collection[bytes]) -> None:
        self._operators = frozenset(operators)

    def verify(self, evidence: bytes, nonce: bytes, node: NodeId, now: int) -> Attested:
        """Raises EvidenceRefused, DecodeError."""
        shown = codec.decode(evidence, _OperatorEvidence, limit=MAX_EVIDENCE_BYTES)
        if shown.statement.operator not in self._operators:
            raise EvidenceRefused("the statement is by nobody whom trust.operators lists")
        said = shown.statement.check(node, now)
        # Last: the node's own signature is what makes it an answer, and not a copy of one.
        if not verified(node, ATTESTATION_CONTEXT + nonce, shown.signature):
            raise EvidenceRefused("the node has not signed this challenge")
        return Attested(f"operator {NodeId(shown.statement.operator).short}", said.not_after, said.text)


def read(data: bytes) -> Evidence:
    """An envelope of evidence, unjudged. Raises DecodeError."""
    return codec.decode(data, Evidence, limit=MAX_EVIDENCE_BYTES + 256)
