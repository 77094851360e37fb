"""What a node's papers say of an advert: good, forged, or of somebody who is no member."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio

from meshnode.config import load
from meshnode.gossip import Verdict
from meshnode.identity import Issuer, Mesh, MeshRoot, NodeKey
from meshnode.identity.certificates import pack_chain
from meshnode.keep.home import Home, Membership
from meshnode.mesh.papers import Papers
from meshnode.model.advert import ADVERT_CONTEXT, Advert, pack

ROOT = MeshRoot.generate()
MESH = Mesh(ROOT.mesh, "home", bytes(32))


def chain_for(key: NodeKey, root: MeshRoot = ROOT, mesh: Mesh = MESH) -> bytes:
    return pack_chain(Issuer(root, mesh.id).issue(key.id, int(time.time()), 1))


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    home = Home(tmp_path / "home", time.time)
    key = home.node_key()
    chain = Issuer(ROOT, MESH.id).issue(key.id, int(time.time()), 1)
    return Papers(home, key, load(), Membership(MESH, chain), trio.Lock())


def advert(key: NodeKey, chain: bytes) -> Advert:
    return Advert(bytes(key.id), MESH.id, 1, 1, 180, name="laptop", chain=chain)


def test_a_members_own_word_is_good(papers: Papers) -> None:
    member = NodeKey.generate()
    said = advert(member, chain_for(member))
    assert papers.judge(said, pack(said), member.sign(ADVERT_CONTEXT, pack(said))) is Verdict.GOOD


def test_what_its_node_did_not_sign_is_forged_however_good_its_certificates_are(papers: Papers) -> None:
    member, neighbour = NodeKey.generate(), NodeKey.generate()
    said = advert(member, chain_for(member))
    body = pack(said)
    changed = bytes([*body[:-1], body[-1] ^ 1])
    signature = member.sign(ADVERT_CONTEXT, body)
    assert papers.judge(said, body, neighbour.sign(ADVERT_CONTEXT, body)) is Verdict.FORGED
    assert papers.judge(said, body, ROOT.sign(ADVERT_CONTEXT, body)) is Verdict.FORGED
    assert papers.judge(said, body, member.sign(b"meshnode something else 1\x00", body)) is Verdict.FORGED
    assert papers.judge(said, body, bytes(64)) is Verdict.FORGED
    assert papers.judge(said, changed, signature) is Verdict.FORGED


def test_who_is_no_member_is_unwanted_and_has_forged_nothing(papers: Papers) -> None:
    stranger, other_root = NodeKey.generate(), MeshRoot.generate()
    for chain in (b"", chain_for(stranger, other_root, Mesh(other_root.mesh, "theirs", bytes(32)))):
        said = advert(stranger, chain)
        assert papers.judge(said, pack(said), stranger.sign(ADVERT_CONTEXT, pack(said))) is Verdict.UNWANTED
