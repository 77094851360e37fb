"""Who is kept out, decided at this node: in force at once, told to all where it is everybody's affair, and on disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from meshnode.config import load
from meshnode.errors import CertificateRefused, IdentityError, SecretFileError
from meshnode.identity import Issuer, Mesh, MeshRoot, NodeKey, Notice, Revocation, Role, Rotation
from meshnode.identity.statements import MAX_KEPT
from meshnode.keep.home import Home, Membership
from meshnode.mesh.papers import Papers
from meshnode.mesh.warden import Warden
from meshnode.model.ids import NodeId

ROOT = MeshRoot.generate()
MESH = Mesh(ROOT.mesh, "home", bytes(32))
ANN, BOB, EVE = (NodeKey.generate().id for _ in range(3))
PLAIN = frozenset({Role.CLIENT, Role.SERVE})


class FakeMesh:
    """As much of a mesh as a warden asks: who is known, and what it was told. `log` is what happened, in order."""

    def __init__(self, papers: Papers) -> None:
        self.papers = papers
        self.log: list[str] = []
        self.linked: set[NodeId] = set()
        self.known: dict[NodeId, SimpleNamespace] = {}
        self.outlook = SimpleNamespace(
            member=self.known.get, members=lambda: self.known, roles=lambda node: self.known[node].roles
        )

    def meet(self, node: NodeId, name: str, *, by: NodeId | None = None, roles: frozenset[Role] = PLAIN) -> None:
        vouchers = frozenset() if by is None else frozenset({by})
        self.known[node] = SimpleNamespace(name=name, vouchers=vouchers, roles=roles)

    def link(self, node: NodeId) -> object | None:
        return object() if node in self.linked else None

    def view(self) -> Any:
        return SimpleNamespace(adverts={}, name=lambda node: node.short)

    def refresh(self) -> None:
        self.log.append("refresh")

    def forget(self, node: NodeId) -> bool:
        self.log.append("forget")
        return self.known.pop(node, None) is not None

    def post(self, notice: Notice) -> None:
        said = notice.statement
        self.log.append("revocation" if isinstance(said, Revocation) else "rotation")
        self.papers.take(notice)


class Desk:
    """A node with a warden; `root`: it holds the mesh's."""

    def __init__(self, folder: Path, *, root: bool = True, **mesh: Any) -> None:
        self.home = Home(folder / "desk", time.time)
        self.key = self.home.node_key()
        config = load(flags={"mesh": mesh})
        if config.mesh.trust == "psk-tofu":
            membership = Membership(MESH, ())
        else:
            chain = Issuer(ROOT, MESH.id).issue(self.key.id, int(time.time()), 1)
            if not root:
                issuer = Issuer(ROOT, MESH.id)
                chain = issuer.issue(self.key.id, int(time.time()), 1, roles=[*PLAIN, Role.INVITE])
            membership = Membership(MESH, chain, ROOT.seed if root else None)
            self.home.save_membership(membership)
        self.papers = Papers(self.home, self.key, config, membership, trio.Lock())
        self.mesh = FakeMesh(self.papers)
        self.warden = Warden(self.papers, self.mesh)  # type: ignore[arg-type]

    def on_disk(self) -> list[Revocation | Rotation]:
        return [notice.statement for notice in self.home.notices(MESH.id)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_who_is_revoked_is_out_before_the_secret_is_made_anew_and_both_are_on_disk(desk: Desk) -> None:
    """The other way round a node that is out would hear the new secret."""
    desk.mesh.meet(EVE, "eve")
    desk.mesh.linked.add(EVE)
    done = await desk.warden.revoke(EVE)
    assert (done.node, done.name, done.dropped, done.local_only) == (EVE, "eve", True, False)
    assert desk.mesh.log == ["revocation", "rotation"]
    out, new = desk.on_disk()
    assert isinstance(out, Revocation) and out.node == bytes(EVE)
    assert isinstance(new, Rotation) and new.generation == done.generation == desk.papers.mesh.generation
    kept = desk.home.membership(desk.key)
    assert kept is not None and kept.mesh == desk.papers.mesh and kept.mesh.secret != MESH.secret


@pytest.mark.parametrize("keep", [False, True])
async def test_whom_a_revoked_node_let_in_goes_with_it_unless_they_are_kept(desk: Desk, keep: bool) -> None:
    desk.mesh.meet(EVE, "eve", roles=frozenset(Role))
    desk.mesh.meet(BOB, "bob", by=EVE)
    desk.mesh.meet(ANN, "ann")
    done = await desk.warden.revoke(EVE, keep_invited=keep)
    out = desk.on_disk()[0]
    assert isinstance(out, Revocation)
    assert (done.also, out.kept) == (((), (bytes(BOB),)) if keep else (("bob",), ()))


async def test_more_than_a_notice_holds_are_not_kept_and_then_nobody_is_revoked(desk: Desk) -> None:
    for number in range(MAX_KEPT + 1):
        desk.mesh.meet(NodeId(number.to_bytes(32, "big")), f"n{number}", by=EVE)
    with pytest.raises(IdentityError, match=f"at most {MAX_KEPT} can be kept"):
        await desk.warden.revoke(EVE, keep_invited=True)
    assert desk.mesh.log == [] and desk.on_disk() == []
    assert len((await desk.warden.revoke(EVE)).also) == MAX_KEPT + 1


@pytest.mark.parametrize(
    ("who", "why"),
    [(EVE, "nothing is heard of"), (ANN, "only a node that holds the root")],
    ids=["nobody knows it", "it may invite"],
)
async def test_a_member_revokes_nobody_whom_only_the_root_can(tmp_path: Path, who: NodeId, why: str) -> None:
    desk = Desk(tmp_path, root=False)
    desk.mesh.meet(ANN, "ann", roles=frozenset(Role))
    desk.mesh.meet(BOB, "bob")
    with pytest.raises(CertificateRefused, match=why):
        await desk.warden.revoke(who)
    assert desk.mesh.log == [] and desk.papers.mesh == MESH
    assert not (await desk.warden.revoke(BOB)).local_only


async def test_a_node_does_not_revoke_itself(desk: Desk) -> None:
    with pytest.raises(IdentityError, match="meshnode leave"):
        await desk.warden.revoke(desk.key.id)
    assert desk.mesh.log == []


async def test_where_the_secret_cannot_be_made_anew_the_node_is_out_all_the_same(tmp_path: Path) -> None:
    desk = Desk(tmp_path, root=False)
    desk.mesh.meet(EVE, "eve")
    ahead = int(time.time()) + 900
    desk.papers.take(Issuer(ROOT, MESH.id).notice(Rotation(MESH.id, ahead, b"s" * 32, int(time.time()))))
    with pytest.raises(CertificateRefused, match="as far as members may"):
        await desk.warden.rotate()
    done = await desk.warden.revoke(EVE)
    assert desk.mesh.log == ["revocation"] and done.generation == ahead
    assert EVE in desk.papers.notices.revoked()


async def test_each_rotation_is_another_generation_with_another_secret_also_when_two_are_made_at_once(
    desk: Desk,
) -> None:
    found: list[int] = []

    async def rotate() -> None:
        found.append(await desk.warden.rotate())

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(rotate)
    assert sorted(found) == [1, 2, 3]
    assert desk.papers.mesh.generation == 3
    secrets = {said.secret for said in desk.papers.notices.rotations()}
    assert len(secrets) == len(desk.papers.notices.rotations()) and MESH.secret not in secrets


def full(*_: object) -> None:
    raise SecretFileError("cannot write: no space left")


@pytest.mark.parametrize(
    ("deed", "counts"),
    [
        (lambda desk: desk.warden.revoke(EVE), lambda desk: EVE in desk.papers.notices.revoked()),
        (lambda desk: desk.warden.rotate(), lambda desk: desk.papers.mesh.generation == 1),
        (lambda desk: desk.warden.trust(EVE), lambda desk: desk.papers.trust.pins.holds(EVE)),
    ],
    ids=["revoke", "rotate", "trust"],
)
async def test_a_full_disk_is_told_and_what_was_decided_counts_even_so(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, deed: Callable[[Desk], Any], counts: Callable[[Desk], bool]
) -> None:
    desk.mesh.meet(EVE, "eve")
    with monkeypatch.context() as patch:
        for name in ("save_notices", "save_pins", "save_membership"):
            patch.setattr(Home, name, full)
        with pytest.raises(SecretFileError, match="no space"):
            await deed(desk)
    assert counts(desk)
    # Once there is room it is written with the next thing that is.
    await desk.papers.keep()
    again = Papers(desk.home, desk.key, load(), desk.home.membership(desk.key) or desk.papers.membership, trio.Lock())
    assert counts(SimpleNamespace(papers=again))  # type: ignore[arg-type]


async def test_what_changes_nothing_tells_nobody_and_what_does_is_judged_anew(desk: Desk) -> None:
    assert await desk.warden.trust(ANN)
    assert desk.mesh.log == ["refresh"] and bytes(ANN) in desk.home.pins().pinned
    assert not await desk.warden.trust(ANN)
    assert desk.mesh.log == ["refresh"]
    assert await desk.warden.forget(ANN)
    assert bytes(ANN) not in desk.home.pins().pinned
    assert desk.mesh.log == ["refresh", "forget", "refresh"]
    assert not await desk.warden.forget(ANN)
    # Where there was only an advert, that was something.
    desk.mesh.meet(BOB, "bob")
    assert await desk.warden.forget(BOB)


async def test_what_the_configuration_pins_is_not_forgotten_by_hand(tmp_path: Path) -> None:
    desk = Desk(tmp_path, pinned=(ANN.text,))
    desk.mesh.meet(ANN, "ann")
    with pytest.raises(IdentityError, match=r"remove it from mesh\.pinned"):
        await desk.warden.forget(ANN)
    assert ANN in desk.mesh.known


async def test_without_certificates_a_node_is_barred_here_and_nobody_is_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path, trust="psk-tofu")
    done = await desk.warden.revoke(EVE)
    assert (done.local_only, done.also, done.name) == (True, (), EVE.short)
    assert desk.mesh.log == ["refresh"] and bytes(EVE) in desk.home.pins().barred
    assert await desk.warden.trust(EVE)
    assert desk.home.pins().barred == ()
    with pytest.raises(CertificateRefused, match=r"mesh\.secret"):
        await desk.warden.rotate()


async def test_people_are_told_whose_revocations_the_roots_lifts(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    member = NodeKey.generate()
    now = int(time.time())
    own = Issuer(ROOT, MESH.id).issue(member.id, now, 5, roles=[*PLAIN, Role.INVITE])
    theirs = Membership(MESH, own).issuer(member)
    desk.mesh.meet(member.id, "helper", roles=frozenset(Role))
    desk.mesh.meet(EVE, "eve")
    desk.papers.take(theirs.notice(Revocation(MESH.id, bytes(EVE), now)))
    await desk.warden.revoke(member.id)
    assert "eve" in capsys.readouterr().out
    assert EVE not in desk.papers.notices.revoked()
