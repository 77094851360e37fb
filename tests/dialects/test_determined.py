"""Which requests say themselves that their answer is the same each time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.dialects import CHAT, COMPLETION, EMBEDDINGS
from meshnode.dialects.determined import determined


@pytest.mark.parametrize(
    ("body", "same"),
    [
        (b'{"temperature":0}', True),
        (b'{"temperature": 0.0}', True),
        (b'{"temperature":1,"seed":7}', True),
        (b'{"temperature":0.1}', False),
        (b'{"seed":null}', False),
        (b'{"messages":[{"content":"\\"temperature\\":0"}]}', False),
        (b'{"temperature":"0"}', False),
        (b'{"temperature":0', False),
        (b'{"temperature":' + b"[" * 100_000, False),
        (b"{}", False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_only_temperature_0_or_a_seed(body: bytes, same: bool) -> None:
    assert determined(CHAT, body) is determined(COMPLETION, body) is same
    assert not determined(EMBEDDINGS, body)


@given(st.binary(max_size=200))
def test_any_bytes_are_judged(noise: bytes) -> None:
    assert determined(CHAT, noise) in (True, False)
    assert determined(CHAT, b'{"seed":1,' + noise) in (True, False)
