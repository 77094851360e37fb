"""Manifests, evidence and receipts of others: nothing is believed that nobody signed, and refusals are the documented
ones."""

from __future__ import annotations

from meshnode.errors import DecodeError, EvidenceRefused
from meshnode.mesh.vouching import ShowYourself, read_question
from meshnode.model import codec
from meshnode.trust import Attested, Envelope, OperatorVerifier, SignedReceipt, SignedStatement, judge, prove
from meshnode.trust.manifest import PAYLOAD_TYPE, Manifest, Signed, sign, verify
from tests.fuzz.kit import Draw, in_words, mutate
from tests.trust.people import NOW, OPERATOR, SERVER, files, receipt, signed, statement

NONCE = b"n" * 32
VERIFIERS = {"operator": OperatorVerifier({OPERATOR.public})}

MANIFEST = sign(Manifest(files("m")), OPERATOR.public, OPERATOR.sign_envelope)
EVIDENCE = prove(statement(), NONCE, SERVER.sign)
RECEIPT = signed().pack()
STATEMENT = statement().pack()
QUESTION = codec.encode(ShowYourself(b"c" * 32, b"k" * 32, ("operator",)))
ODD = Envelope.sign(PAYLOAD_TYPE, b'{"files":[{"path":"../x"}]}', OPERATOR.public, OPERATOR.sign_envelope).pack()


def one_input(data: bytes) -> None:
    draw = Draw(data)
    kind, valid = draw.number(5), draw.flag()
    made = (MANIFEST, EVIDENCE, RECEIPT, STATEMENT, QUESTION)[kind]
    wire = mutate(made, draw) if valid else draw.rest()
    try:
        believed = (_manifest, _evidence, _receipt, _statement, _question)[kind](wire)
    except (DecodeError, EvidenceRefused) as error:
        assert wire != made, "refused what is right"
        in_words(error)
        return
    assert believed, "believed what nobody signed"


def _manifest(wire: bytes) -> bool:
    # JSON has many spellings; the payload that counts has one signature.
    found = verify(wire, {OPERATOR.public})
    return found == Signed(Manifest(files("m")), OPERATOR.public)


def _evidence(wire: bytes) -> bool:
    return isinstance(judge(wire, NONCE, SERVER.id, VERIFIERS, NOW), Attested) and wire == EVIDENCE


def _receipt(wire: bytes) -> bool:
    return SignedReceipt.unpack(wire).check() == receipt() and wire == RECEIPT


def _statement(wire: bytes) -> bool:
    return SignedStatement.unpack(wire).check(SERVER.id, NOW) == statement().statement and wire == STATEMENT


def _question(wire: bytes) -> bool:
    # Nobody signs a question: what is read is bounded, and says the same again.
    return codec.encode(read_question(wire)) == wire


def seeds() -> dict[str, bytes]:
    """Each kind as it should be, raw and to be changed; and a manifest that leads out of its folder."""
    names = ("manifest", "evidence", "receipt", "statement", "question")
    made = dict(zip(names, (MANIFEST, EVIDENCE, RECEIPT, STATEMENT, QUESTION), strict=True))
    raw = {name: bytes([kind, 0]) + wire for kind, (name, wire) in enumerate(made.items())}
    changed = {f"{name}-changed": bytes([kind, 1, 0, 0, 40, 1]) for kind, name in enumerate(made)}
    return {**raw, **changed, "manifest-leads-out": b"\x00\x00" + ODD}
