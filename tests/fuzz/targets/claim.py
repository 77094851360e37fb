"""Owner claims of others: none counts that its origin did not sign for this very job, and refusals are in words."""

from __future__ import annotations

import base64

from meshnode.errors import DecodeError, EvidenceRefused
from meshnode.model import codec
from meshnode.trust.claim import Claim, SignedClaim
from tests.fuzz.kit import Draw, in_words, mutate
from tests.trust.people import NOW, ORIGIN, SERVER, sha

CLAIM = Claim(
    "ann", "job-1.abc", 1, "/v1/chat/completions", ORIGIN.public, SERVER.public, sha(b"body"), 1, 600_000, NOW
)
SIGNED = SignedClaim.sign(CLAIM, ORIGIN.sign)
WIRE = codec.encode(SIGNED)


def one_input(data: bytes) -> None:
    draw = Draw(data)
    match draw.number(3):
        case 0:
            wire = mutate(WIRE, draw)
            text = base64.b64encode(wire).decode()
        case 1:
            text = mutate(SIGNED.header.encode(), draw).decode("latin-1")
        case _:
            text = draw.rest().decode("utf-8", "replace")
    try:
        SignedClaim.of_header(text).check(CLAIM)
    except (DecodeError, EvidenceRefused) as error:
        assert text != SIGNED.header, "refused what is right"
        in_words(error)
        return
    # Base64 spells its last character in several ways; what is signed has one.
    assert base64.b64decode(text) == WIRE, "believed what nobody signed"


def seeds() -> dict[str, bytes]:
    """As it should be, changed in either form, for somebody else, and nothing like it."""
    strange = SignedClaim.sign(CLAIM, SERVER.sign).header.encode()
    return {
        "whole": b"\x02" + SIGNED.header.encode(),
        "strange": b"\x02" + strange,
        "changed": bytes([0, 1, 0, 0, 40, 1]),
        "changed-text": bytes([1, 1, 0, 0, 40, 1]),
    }
