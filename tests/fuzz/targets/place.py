"""A place in a queue in a 102's head: whatever a peer writes is a small number, and what we write is read."""

from __future__ import annotations

from meshnode.mux import headers
from tests.fuzz.kit import Draw, mutate

MOST = 10**headers.PLACE_DIGITS - 1


def one_input(data: bytes) -> None:
    draw = Draw(data)
    match draw.number(3):
        case 0:
            text = mutate(b"12", draw).decode("latin-1")
        case 1:
            text = draw.rest().decode("utf-8", "replace")
        case _:
            number = int.from_bytes(draw.take(4), "big")
            written = [(name.decode(), value.decode()) for name, value in headers.place(number)]
            assert headers.read_place(written) == (number if number <= MOST else 0)
            return
    block = [(":status", "102"), (headers.PLACE, text)]
    assert 0 <= headers.read_place(block) <= MOST
    assert not headers.read_mute(block) and headers.read_mute([*block, (headers.MUTE, text)])


def seeds() -> dict[str, bytes]:
    """As a server writes it, larger than allowed, and digits that are not ours."""
    return {
        "plain": b"\x01" + b"4",
        "large": b"\x01" + b"1000000",
        "arabic": b"\x01" + "\u0661".encode(),
        "mutated": b"\x00\x05\x10\xff",
        "written": b"\x02" + bytes([0, 1, 2, 3]),
    }
