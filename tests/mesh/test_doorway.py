"""What a member shows at its door, and what it asks of whoever knocks, as its papers are at that moment."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import trio

from meshnode.config import load
from meshnode.errors import CertificateRefused, HandshakeFailed
from meshnode.identity import Invite, InviteBook, Issuer, Mesh, MeshRoot, NodeKey, Role, Rotation
from meshnode.keep.home import Home, Membership
from meshnode.mesh.doorway import RENEW_S, Doorway, Knock
from meshnode.mesh.papers import Papers
from meshnode.noise import Established, Initiator, Responder

ROOT = MeshRoot.from_seed(b"r" * 32)
MESH = Mesh(ROOT.mesh, "home", b"s" * 32)


@dataclass
class Node:
    key: NodeKey
    papers: Papers
    book: InviteBook
    door: Doorway


def node(folder: Path, name: str, *, mesh: Mesh = MESH, trust: str = "ca") -> Node:
    home = Home(folder / name)
    key = home.node_key()
    chain = Issuer(ROOT, MESH.id).issue(key.id, int(time.time()), 1)
    config = load(flags={"node": {"name": name}, "mesh": {"trust": trust}})
    papers, book = Papers(home, key, config, Membership(mesh, chain), trio.Lock()), InviteBook()
    return Node(key, papers, book, Doorway(papers, book))


def shake(initiator: Initiator, responder: Responder) -> tuple[Established, Established]:
    """Both ends' results."""
    assert responder.receive(initiator.bytes_to_send()) is None
    near = initiator.receive(responder.bytes_to_send())
    far = responder.receive(initiator.bytes_to_send())
    assert near is not None and far is not None
    return near, far


def rotate(*nodes: Node) -> None:
    papers = nodes[0].papers
    made = Rotation(MESH.id, papers.mesh.generation + 1, bytes([papers.mesh.generation + 1]) * 32, int(time.time()))
    for one in nodes:
        one.papers.take(Issuer(ROOT, MESH.id).notice(made))


def test_both_ends_learn_id_name_and_roles(tmp_path: Path) -> None:
    near, far = node(tmp_path, "near"), node(tmp_path, "far")
    here, there = shake(near.door.initiator(), far.door.responder())
    peer, described = near.door.check(here.remote_payload, here.remote_static)
    assert (peer, described.name, described.roles) == (far.key.id, "far", frozenset(Role))
    assert far.door.check(there.remote_payload, there.remote_static)[1].name == "near"


def test_an_old_secret_is_accepted_and_tried_after_the_new_one(tmp_path: Path) -> None:
    near, far = node(tmp_path, "near"), node(tmp_path, "far")
    rotate(far)
    shake(near.door.initiator(), far.door.responder())
    newest, oldest = far.door.initiators()
    with pytest.raises(HandshakeFailed, match="stranger"):
        near.door.responder().receive(newest().bytes_to_send())
    shake(oldest(), near.door.responder())


def test_a_day_later_the_old_secret_is_a_strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = node(tmp_path, "near"), node(tmp_path, "far")
    rotate(far)
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 24 * 3600 + 60)
    assert len(far.door.initiators()) == 1
    with pytest.raises(HandshakeFailed, match="stranger"):
        far.door.responder().receive(near.door.initiator().bytes_to_send())


def test_what_was_answered_is_told_from_what_met_silence(tmp_path: Path) -> None:
    near, far = node(tmp_path, "near"), node(tmp_path, "far")
    (attempt,) = near.door.initiators()
    assert not attempt.unanswered, "nobody was connected to"
    silent = attempt()
    silent.bytes_to_send()
    assert attempt.unanswered
    (attempt,) = near.door.initiators()
    shake(attempt(), far.door.responder())
    assert not attempt.unanswered


def test_a_renewed_chain_is_shown_at_the_next_handshake(tmp_path: Path) -> None:
    near, far = node(tmp_path, "near"), node(tmp_path, "far")
    chain = Issuer(ROOT, MESH.id).issue(near.key.id, int(time.time()), 2, roles=(Role.CLIENT,), owner="anna")
    near.papers.adopt(msgspec.structs.replace(near.papers.membership, chain=chain))
    _, there = shake(near.door.initiator(), far.door.responder())
    peer = far.door.check(there.remote_payload, there.remote_static)[1]
    assert (peer.roles, peer.owner) == ({Role.CLIENT}, "anna")


def test_inside_a_link_only_the_same_session_shakes_hands(tmp_path: Path) -> None:
    near, far = node(tmp_path, "near"), node(tmp_path, "far")
    shake(near.door.initiator(b"session"), far.door.responder(b"session"))
    for responder in (far.door.responder(b"another"), far.door.responder()):
        with pytest.raises(HandshakeFailed, match="stranger"):
            responder.receive(near.door.initiator(b"session").bytes_to_send())


def test_nobody_joins_inside_a_link(tmp_path: Path) -> None:
    far = node(tmp_path, "far")
    invite = invite_of(far)
    knock = Knock(NodeKey.generate(), invite, "new")
    with pytest.raises(HandshakeFailed, match="stranger"):
        far.door.responder(b"session").receive(knock.attempt()().bytes_to_send())


def test_a_joiner_is_met_by_its_invite_and_is_nobody_yet(tmp_path: Path) -> None:
    far = node(tmp_path, "far")
    key = NodeKey.generate()
    knock = Knock(key, invite_of(far), "new")
    here, there = shake(knock.attempt()(), far.door.responder())
    assert knock.check(here.remote_payload, here.remote_static)[0] == far.key.id
    peer, described = far.door.check_join(there.remote_payload, there.remote_static)
    assert (peer, described.name, described.roles) == (key.id, "new", frozenset())
    with pytest.raises(CertificateRefused):
        far.door.check(there.remote_payload, there.remote_static)


def test_handshake_keys_live_half_a_day_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = node(tmp_path, "near"), node(tmp_path, "far")

    def shown() -> bytes:
        return shake(near.door.initiator(), far.door.responder())[1].remote_static

    first = shown()
    assert shown() == first
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + RENEW_S + 1)
    later = shown()
    assert later != first
    # A clock that was set back makes a new one too.
    monkeypatch.setattr("time.time", lambda: now)
    assert shown() not in (first, later)


def invite_of(inviter: Node) -> Invite:
    now = int(time.time())
    token, _ = inviter.book.issue(
        now, b"i" * 16, mesh=MESH.id, signer=inviter.key.id, addresses=("far:6375",), lifetime_s=600
    )
    return Invite.parse(token, now)
