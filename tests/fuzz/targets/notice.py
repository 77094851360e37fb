"""Notices: whatever arrives in whatever order, only those who may are heard, and what is kept is bounded."""

from __future__ import annotations

from meshnode.errors import CertificateRefused, DecodeError
from meshnode.identity import Issuer, Mesh, MeshRoot, NodeKey, Notice, Notices, Revocation, Role, Rotation
from meshnode.identity.certificates import Chain
from meshnode.identity.mesh import MAX_OLDER
from meshnode.identity.notices import MAX_ROTATIONS
from meshnode.identity.statements import MAX_NOTICE_BYTES, NOTICE_CONTEXT
from meshnode.model import codec
from tests.fuzz.kit import Draw, mutate
from tests.identity.people import ALICE, BOB, BY_ROOT, CAROL, DAY, FOREIGN_ROOT, MESH, NOW, ROOT, alice_chain

PEOPLE = [ALICE, BOB, CAROL, *(NodeKey.from_seed(bytes([number]) * 32) for number in range(5))]
SIGNERS: tuple[tuple[MeshRoot | NodeKey, Chain], ...] = (
    (ROOT, ()),
    (ALICE, alice_chain()),
    (BOB, BY_ROOT.issue(BOB.id, NOW, 2, roles=set(Role) - {Role.INVITE})),
    (CAROL, BY_ROOT.issue(CAROL.id, NOW, 3)),
    (FOREIGN_ROOT, ()),
)
MAY = {ROOT.public, ALICE.public, CAROL.public}
TIMES = (0, NOW - 61 * DAY, NOW - DAY, NOW - 1, NOW, NOW + 300, NOW + 301)
MOST = 10


def one_input(data: bytes) -> None:
    draw = Draw(data)
    if draw.flag():
        _raw(draw.rest())
    else:
        _in_any_order(draw)


def _raw(data: bytes) -> None:
    try:
        notice = Notice.unpack(data)
    except DecodeError:
        return
    assert notice.pack() == data, "a second spelling"
    assert len(data) <= MAX_NOTICE_BYTES
    notices = Notices(MESH.id)
    try:
        said = notices.add(notice, NOW)
    except CertificateRefused:
        assert not notices.all()
        return
    assert said is None or _honest(notice), "believed what nobody signed"


def _honest(notice: Notice) -> bool:
    """Whether one who may has signed exactly this."""
    signer = next((key for key, _ in SIGNERS if key.public == (notice.member or ROOT.public)), None)
    signed = signer is not None and signer.sign(NOTICE_CONTEXT, notice.body) == notice.signature
    return signed and signer is not None and signer.public in MAY


def _in_any_order(draw: Draw) -> None:
    made = [_notice(draw) for _ in range(draw.number(MOST))]
    order = sorted(range(len(made)), key=lambda index: (draw.number(256), index))
    here, there = Notices(MESH.id), Notices(MESH.id)
    for notice in made:
        _add(here, notice)
    for index in (*order, *range(len(made))):
        _add(there, made[index])
    assert _meaning(here) == _meaning(there), "the order of arrival decides"
    assert len(here.rotations()) <= MAX_ROTATIONS * len(SIGNERS)
    assert all(map(_honest, here.all()))
    assert set(Notices.restored(MESH.id, here.all()).all()) == set(here.all()), "a restart forgets"
    _settled(here, there)


def _meaning(notices: Notices) -> tuple[object, ...]:
    """Who is out by whose word, and which secrets count. Of a member's word against one node the first may stay."""
    revoked = {
        (said.node, said.at if notice.member is None else 0, said.kept, notice.member)
        for notice in notices.all()
        if isinstance(said := notice.statement, Revocation)
    }
    return revoked, notices.rotations()


def _settled(here: Notices, there: Notices) -> None:
    """The mesh's secrets come out alike too."""
    ends = []
    for notices in (here, there):
        mesh = Mesh(MESH.id, "home", b"s" * 32)
        for rotation in reversed(notices.rotations()):
            mesh = mesh.rotated(rotation, NOW)
        ends.append(mesh.secrets(NOW))
    assert ends[0] == ends[1] and 1 <= len(ends[0]) <= 1 + MAX_OLDER


def _add(notices: Notices, notice: Notice) -> None:
    before = notices.all()
    try:
        said = notices.add(notice, NOW)
    except CertificateRefused:
        assert notices.all() == before, "refused, and changed something"
        return
    if said is not None:
        assert _honest(notice) and notice in notices.all()
        assert said.at <= NOW + 300 and said.mesh == MESH.id


def _notice(draw: Draw) -> Notice:
    key, chain = SIGNERS[draw.number(len(SIGNERS))]
    at = TIMES[draw.number(len(TIMES))]
    mesh = MESH.id if draw.number(16) else FOREIGN_ROOT.mesh
    statement: Revocation | Rotation
    if draw.flag():
        kept = tuple(person.public for person in PEOPLE[: draw.number(3)])
        statement = Revocation(mesh, PEOPLE[draw.number(len(PEOPLE))].public, at, kept)
    else:
        secret = bytes([draw.number(4)]) * 32
        statement = Rotation(mesh, 1 + draw.number(4), secret, at)
    body = codec.encode(statement)
    if draw.number(16) == 1:
        body = mutate(body, Draw(draw.some(6)))[:1024]
    signature = key.sign(NOTICE_CONTEXT, body) if draw.number(16) else bytes(64)
    return Notice(body, signature, chain)


def seeds() -> dict[str, bytes]:
    """What the root and a member say, raw and in conversation."""
    by_alice = Issuer(ALICE, MESH.id, alice_chain())
    return {
        "revocation": b"\x01" + BY_ROOT.notice(Revocation(MESH.id, BOB.public, NOW, (CAROL.public,))).pack(),
        "by-a-member": b"\x01" + by_alice.notice(Revocation(MESH.id, BOB.public, NOW)).pack(),
        "rotation": b"\x01" + by_alice.notice(Rotation(MESH.id, 2, b"n" * 32, NOW)).pack(),
        "inviter-out": b"\x00\x03" + b"\x01\x04\x01\x01\x00\x01\x00\x01" + b"\x00\x04\x01\x01\x00\x00\x00\x01"
        b"\x01\x03\x01\x00\x01\x02\x00\x01" + b"\x02\x01\x00",
        "rotations": b"\x00\x05" + b"\x00\x04\x01\x00\x01\x01\x00\x01" * 2 + b"\x01\x04\x01\x00\x01\x02\x00\x01" * 3,
        "strangers": b"\x00\x02" + b"\x02\x04\x01\x01\x00\x01\x00\x01" + b"\x04\x04\x01\x01\x00\x01\x00\x01",
    }
