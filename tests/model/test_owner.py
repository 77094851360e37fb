"""Names of owners: what can be read back from a certificate, and travels in a header as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.identity import Issuer, MeshRoot, NodeKey
from meshnode.identity.certificates import read_membership
from meshnode.model.owner import MAX_OWNER, is_owner


@pytest.mark.parametrize("name", ["", "ann", "Ann Ö. Nymous", "安", "a" * MAX_OWNER])
def test_one_line_is_a_name(name: str) -> None:
    assert is_owner(name)


@pytest.mark.parametrize("name", ["a" * (MAX_OWNER + 1), " ann", "ann ", "a\nb", "a\x1b[31m", "\ud800", "a\u200e"])
def test_what_no_header_carries_or_no_certificate_takes_is_none(name: str) -> None:
    assert not is_owner(name)


@given(st.text(max_size=70))
def test_whoever_may_be_an_owner_is_one_in_a_certificate_too(name: str) -> None:
    if is_owner(name):
        root, node = MeshRoot.generate(), NodeKey.generate()
        (signed,) = Issuer(root, root.mesh).issue(node.id, 10**9, 1, owner=name)
        assert read_membership(signed).owner == name
