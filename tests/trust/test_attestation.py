"""Attestation: an answer to this challenge, on this link, of this node, by a trusted operator, not too old. Or none."""

from __future__ import annotations

import pytest

from meshnode.errors import DecodeError, EvidenceRefused
from meshnode.identity import NodeKey
from meshnode.model import codec
from meshnode.model.ids import NodeId
from meshnode.trust import Attested, OperatorVerifier, SignedStatement, Statement, bound_nonce, judge, prove
from meshnode.trust.attestation import FRESH_S, STATEMENT_CONTEXT, Evidence
from tests.trust.people import CHALLENGE, LINK_KEY, NOW, OPERATOR, SERVER, STRANGER, statement

VERIFIERS = {"operator": OperatorVerifier({OPERATOR.public})}
NONCE = bound_nonce(CHALLENGE, LINK_KEY, SERVER.id)


def judged(data: bytes, nonce: bytes = NONCE, node: NodeId = SERVER.id, now: int = NOW) -> Attested:
    return judge(data, nonce, node, VERIFIERS, now)


def shown(by: NodeKey = OPERATOR, nonce: bytes = NONCE, key: NodeKey = SERVER) -> bytes:
    return prove(statement(by), nonce, key.sign)


def test_an_operators_statement_attests_for_an_hour() -> None:
    found = judged(shown())
    assert found.until == NOW + FRESH_S
    assert OPERATOR.id.short in found.by and found.text == "disk encrypted, logs off"


def test_a_statement_that_ends_sooner_attests_until_then() -> None:
    data = prove(statement(lasts_s=60), NONCE, SERVER.sign)
    assert judged(data).until == NOW + 60


@pytest.mark.parametrize(
    "nonce",
    [
        bound_nonce(b"d" * 32, LINK_KEY, SERVER.id),
        bound_nonce(CHALLENGE, b"m" * 32, SERVER.id),
        bound_nonce(CHALLENGE, LINK_KEY, STRANGER.id),
    ],
    ids=["another challenge: a replay", "another link", "another node"],
)
def test_evidence_for_something_else_is_refused(nonce: bytes) -> None:
    with pytest.raises(EvidenceRefused, match="another"):
        judged(shown(nonce=nonce))


def test_evidence_relabelled_for_this_challenge_is_refused() -> None:
    old = codec.decode(shown(nonce=bound_nonce(b"d" * 32, LINK_KEY, SERVER.id)), Evidence)
    with pytest.raises(EvidenceRefused, match="not signed this challenge"):
        judged(Evidence(old.type, NONCE, old.evidence).pack())


def test_evidence_of_a_node_that_lent_it_is_refused() -> None:
    """A member that shows another's statement has not its key."""
    nonce = bound_nonce(CHALLENGE, LINK_KEY, STRANGER.id)
    with pytest.raises(EvidenceRefused, match="another node"):
        judged(prove(statement(), nonce, STRANGER.sign), nonce, STRANGER.id)


def test_a_statement_by_a_stranger_is_refused() -> None:
    with pytest.raises(EvidenceRefused, match="nobody whom"):
        judged(shown(by=STRANGER))


def test_a_statement_that_its_operator_has_not_signed_is_refused() -> None:
    real = statement()
    forged = SignedStatement(real.body, OPERATOR.public, STRANGER.sign(STATEMENT_CONTEXT, real.body))
    with pytest.raises(EvidenceRefused, match="not signed by the operator"):
        judged(prove(forged, NONCE, SERVER.sign))


@pytest.mark.parametrize("now", [NOW + 86_400, NOW + 86_401, NOW - 301])
def test_a_statement_out_of_its_time_is_refused(now: int) -> None:
    with pytest.raises(EvidenceRefused, match="does not count now"):
        judged(shown(), now=now)


def test_a_type_that_nobody_verifies_is_refused() -> None:
    with pytest.raises(EvidenceRefused, match="no verifier"):
        judged(Evidence("tpm2", NONCE, b"").pack())


def test_a_verifier_that_is_handed_in_is_asked() -> None:
    class Always:
        def verify(self, evidence: bytes, nonce: bytes, node: NodeId, now: int) -> Attested:
            assert (evidence, nonce, node) == (b"quote", NONCE, SERVER.id)
            return Attested("tpm", now + 10 * FRESH_S)

    found = judge(Evidence("tpm2", NONCE, b"quote").pack(), NONCE, SERVER.id, {"tpm2": Always()}, NOW)
    assert found == Attested("tpm", NOW + FRESH_S), "an hour at most, whatever a verifier says"


def test_evidence_that_has_ended_is_refused_whoever_verified_it() -> None:
    class Late:
        def verify(self, evidence: bytes, nonce: bytes, node: NodeId, now: int) -> Attested:
            return Attested("late", now)

    with pytest.raises(EvidenceRefused, match="ended"):
        judge(Evidence("late", NONCE, b"").pack(), NONCE, SERVER.id, {"late": Late()}, NOW)


def test_what_is_no_evidence_is_refused() -> None:
    for data in (b"", b"\xff", shown()[:-1], Evidence("operator", NONCE, b"?").pack()):
        with pytest.raises(DecodeError):
            judged(data)


def test_a_statement_says_who_and_until_when() -> None:
    kept = SignedStatement.unpack(statement().pack())
    assert kept.check(SERVER.id, NOW) == kept.statement == Statement(
        SERVER.public, "disk encrypted, logs off", NOW, NOW + 86_400
    )  # fmt: skip
    with pytest.raises(EvidenceRefused, match="another node"):
        kept.check(STRANGER.id, NOW)
