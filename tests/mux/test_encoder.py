"""hpack's own decoder is the judge of every block."""

from __future__ import annotations

from hpack import Decoder
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.mux.encoder import BlockEncoder

NAMES = st.sampled_from([b":status", b":path", b"content-type", b"meshnode-job", b"x"]) | st.binary(max_size=20)
VALUES = st.sampled_from([b"200", b"/", b"text/event-stream", b"1"]) | st.binary(max_size=400)
BLOCKS = st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=8), max_size=12)


def decoded(decoder: Decoder, block: bytes) -> list[tuple[bytes, bytes]]:
    return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]


@given(BLOCKS, st.integers(0, 5000))
@settings(deadline=None, max_examples=150)
def test_every_block_decodes_to_itself(blocks: list[list[tuple[bytes, bytes]]], size: int) -> None:
    encoder, decoder = BlockEncoder(), Decoder()
    for number, block in enumerate([*blocks, *blocks, *blocks]):
        if number == len(blocks):
            encoder.header_table_size = size
        assert decoded(decoder, encoder.encode(block)) == block


def test_what_comes_again_costs_a_byte() -> None:
    encoder, decoder = BlockEncoder(), Decoder()
    block = [(b":method", b"POST"), (b"meshnode-label", b"internal")]
    sizes = []
    for _ in range(3):
        out = encoder.encode(block)
        sizes.append(len(out))
        assert decoded(decoder, out) == block
    assert sizes[2] == 2


def test_what_never_comes_again_does_not_push_out_what_does() -> None:
    encoder, decoder = BlockEncoder(), Decoder()
    common = (b"meshnode-label", b"internal")
    sizes = []
    for number in range(1000):
        block = [common, (b"meshnode-job", str(number).encode() * 10)]
        out = encoder.encode(block)
        sizes.append(len(out))
        assert decoded(decoder, out) == block
    assert max(sizes[2:]) == 1 + 1 + 1 + len(b"meshnode-job") + 1 + 30


def test_a_full_table_starts_over() -> None:
    encoder, decoder = BlockEncoder(), Decoder()
    for number in range(400):
        block = [(b"x-model", b"m" * 60 + str(number // 4).encode())]
        assert decoded(decoder, encoder.encode(block)) == block
    assert decoder.header_table_size == 4096
    assert len(encoder.encode(block)) <= 2
