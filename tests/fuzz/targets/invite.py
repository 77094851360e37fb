"""The line of an invite: refused in words, or read as what its signer wrote, however a terminal broke it."""

from __future__ import annotations

import base64
import hashlib

from meshnode.errors import InviteRefused
from meshnode.identity.invites import PREFIX, Invite
from meshnode.model import codec
from tests.fuzz.kit import Draw, in_words, mutate

NOW = 1_800_000_000


def one_input(data: bytes) -> None:
    draw = Draw(data)
    match draw.number(3):
        case 0:
            _read(draw.rest().decode("utf-8", "surrogateescape"))
        case 1:
            invite = _invite(draw)
            line = invite.token()
            broken = mutate(line.encode(), draw).decode("latin-1")
            if broken == line:
                assert Invite.parse(line, NOW) == invite
            _read(broken)
        case _:
            # As a liar writes it: any content, and the right checksum.
            body = mutate(codec.encode(_invite(draw)), draw)
            summed = body + hashlib.sha256(body).digest()[:4]
            _read(PREFIX + base64.urlsafe_b64encode(summed).decode().rstrip("="))


def _read(line: str) -> None:
    try:
        invite = Invite.parse(line, NOW)
    except InviteRefused as error:
        in_words(error)
        return
    assert invite.token() == "".join(line.split()), "a second spelling"
    assert invite.expires >= NOW
    assert len(invite.hint) == 8
    assert base64.urlsafe_b64encode(invite.secret).decode().rstrip("=") not in repr(invite)


def _invite(draw: Draw) -> Invite:
    addresses = tuple(f"10.0.0.{number}:6375" for number in range(draw.number(17)))
    secret = draw.take(16).ljust(16, b"\x01")
    return Invite(1, b"m" * 32, addresses, b"n" * 32, secret, NOW + draw.number(86_400))


def seeds() -> dict[str, bytes]:
    """A line, a broken one, one of a liar."""
    line = _invite(Draw(b"\x01" + b"s" * 16)).token().encode()
    return {
        "line": b"\x01\x01" + b"s" * 16 + b"\x00\x01\x00",
        "line-mistyped": b"\x01\x00" + b"s" * 16 + b"\x00\x01\x00" + b"\x01\x20\x41",
        "line-broken": b"\x00" + line[:40] + b"\r\n  " + line[40:],
        "empty": b"\x00" + PREFIX.encode(),
        "not-base64": b"\x00" + PREFIX.encode() + "\u00e9\u4e16".encode(),
        "liar": b"\x02\x10" + b"s" * 16 + b"\x00\x01\x00",
        "liar-version": b"\x02\x01" + b"s" * 16 + b"\x00\x01\x00" + b"\x01\x01\x02",
    }
