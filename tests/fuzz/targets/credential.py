"""Credentials and chains: believed is only what the right keys signed, for now, for this mesh and this handshake."""

from __future__ import annotations

from meshnode.errors import CertificateRefused
from meshnode.identity import (
    Credential,
    Issuer,
    LinkCertificate,
    MembershipCertificate,
    MeshRoot,
    NodeKey,
    Notices,
    Peer,
    Pins,
    Revocation,
    Role,
    Signed,
    Trust,
    TrustMode,
    ask_renewal,
    certify_link,
    pack_chain,
    renew,
)
from meshnode.identity.certificates import LINK_CONTEXT, MEMBERSHIP_CONTEXT, unpack_chain
from meshnode.identity.credential import check_chain
from meshnode.model import codec
from tests.fuzz.kit import Draw, in_words, mutate, refused
from tests.identity.people import (
    ALICE,
    BOB,
    BY_ROOT,
    CAROL,
    DAY,
    FOREIGN_ROOT,
    MESH,
    NOW,
    ROOT,
    X25519,
    alice_chain,
    bob_chain,
)

SIGNERS: tuple[MeshRoot | NodeKey, ...] = (ROOT, ALICE, BOB, FOREIGN_ROOT)
CHAINS = {BOB.public: bob_chain(), ALICE.public: alice_chain()}
VALID = {
    key.public: codec.encode(Credential(certify_link(key, X25519, MESH.id, NOW), CHAINS[key.public], "a name"))
    for key in (ALICE, BOB)
}
TIMES = (0, NOW - 31 * DAY, NOW - 300, NOW, NOW + 1, NOW + DAY, NOW + 31 * DAY)
ROLES = tuple(sorted(Role))


def one_input(data: bytes) -> None:
    draw = Draw(data)
    match draw.number(5):
        case 0:
            _raw(draw.rest())
        case 1:
            _changed(draw)
        case 2:
            _liar(draw)
        case 3:
            _chain(draw)
        case _:
            _renewal(draw)


def _trust(mode: TrustMode = TrustMode.CA, pins: Pins | None = None) -> Trust:
    return Trust(mode, MESH.id, CAROL.id, pins or Pins(), Notices(MESH.id))


def _believed(payload: bytes, trust: Trust) -> Peer | None:
    try:
        return trust.check_member(payload, X25519, NOW)
    except CertificateRefused as error:
        in_words(error)
        return None


def _raw(data: bytes) -> None:
    """Nobody's signature is in there."""
    for mode in TrustMode:
        assert _believed(data, _trust(mode)) is None
    assert refused(lambda: _trust().check_joiner(data, X25519, NOW), CertificateRefused)
    assert refused(lambda: _trust().judge_advert(BOB.id, "n", data, NOW), CertificateRefused)
    assert refused(lambda: renew(data, BY_ROOT, _trust(), NOW, 1), CertificateRefused)


def _changed(draw: Draw) -> None:
    """Of a good payload only the name, which its node may choose, can change."""
    valid = VALID[(ALICE, BOB)[draw.number(2)].public]
    payload = mutate(valid, draw)
    peer = _believed(payload, _trust())
    if payload == valid:
        assert peer is not None
    if peer is not None:
        before, after = (codec.decode(each, Credential) for each in (valid, payload))
        assert (before.link, before.chain) == (after.link, after.chain), "believed what nobody signed"
        assert peer.name == after.name and peer.name.isprintable()


def _liar(draw: Draw) -> None:
    """Well-made certificates with anything inside, signed by any key: an oracle says which hold."""
    link_key = (BOB, ALICE, CAROL)[draw.number(3)]
    link = LinkCertificate(
        (link_key if draw.number(8) else ALICE).public,
        X25519 if draw.number(8) else b"y" * 32,
        TIMES[draw.number(7)],
        TIMES[draw.number(7)],
        MESH.id if draw.number(8) else b"z" * 32,
    )
    body = codec.encode(link)
    signed = Signed(body, link_key.sign(LINK_CONTEXT if draw.number(8) else MEMBERSHIP_CONTEXT, body))
    chain = tuple(_membership(draw) for _ in range(draw.number(4)))
    payload = codec.encode(Credential(signed, chain, draw.some(4).decode("latin-1")))
    barred = draw.number(4) == 1
    notices = Notices(MESH.id)
    if barred:
        notices.add(BY_ROOT.notice(Revocation(MESH.id, BOB.public, NOW)), NOW)
    mode = list(TrustMode)[draw.number(3)]
    pins = Pins(pinned=(ALICE.public,)) if draw.flag() else Pins()
    peer = _believed(payload, Trust(mode, MESH.id, CAROL.id, pins, notices))
    if peer is None:
        return
    assert signed.signature == link_key.sign(LINK_CONTEXT, body)
    assert link.id == link_key.public != CAROL.public
    assert link.not_before <= NOW <= link.not_after <= link.not_before + DAY + 300
    assert (link.mesh, link.x25519, peer.node) == (MESH.id, X25519, link.id)
    assert not (barred and peer.node == BOB.id), "a revoked node believed"
    if mode is TrustMode.PSK_TOFU:
        assert not chain and Role.INVITE not in peer.roles
        return
    assert mode is TrustMode.CA or peer.node in pins.pinned
    _holds(chain, peer, barred)


def _membership(draw: Draw) -> Signed:
    signer = SIGNERS[draw.number(4)]
    roles = tuple(role for role in ROLES if draw.flag())
    certificate = MembershipCertificate(
        (BOB, ALICE, CAROL)[draw.number(3)].public,
        roles,
        draw.some(3).decode("latin-1"),
        TIMES[draw.number(7)],
        TIMES[draw.number(7)],
        draw.number(2**16),
        MESH.id if draw.number(8) else FOREIGN_ROOT.mesh,
        (signer if draw.number(8) else ROOT).public,
        b"" if draw.number(4) else ALICE.public,
    )
    body = codec.encode(certificate)
    return Signed(body, signer.sign(MEMBERSHIP_CONTEXT, body))


def _holds(chain: tuple[Signed, ...], peer: Peer, bob_is_barred: bool) -> None:
    """protocol.md §1, said once more."""
    read = [codec.decode(signed.body, MembershipCertificate) for signed in chain]
    assert 1 <= len(read) <= 2
    assert read[0].node == peer.node and peer.roles == set(read[0].roles) and peer.owner == read[0].owner
    assert read[-1].issuer == ROOT.mesh
    for signed, certificate in zip(chain, read, strict=True):
        signer = next(key for key in SIGNERS if key.public == certificate.issuer)
        assert signed.signature == signer.sign(MEMBERSHIP_CONTEXT, signed.body)
        assert certificate.mesh == MESH.id
        assert certificate.not_before <= NOW <= certificate.not_after
        assert certificate.not_after - certificate.not_before <= 30 * DAY + 300
        assert not (bob_is_barred and certificate.node == BOB.public)
    if len(read) == 2:
        assert read[0].issuer == read[1].node and Role.INVITE in read[1].roles
        assert set(read[0].roles) <= set(read[1].roles) - {Role.INVITE}
    assert peer.until <= min(certificate.not_after for certificate in read)


def _chain(draw: Draw) -> None:
    """A chain as adverts carry it: changed, it makes nobody a member."""
    valid = pack_chain(CHAINS[BOB.public])
    data = mutate(valid, draw)
    try:
        chain = unpack_chain(data)
    except CertificateRefused:
        assert data != valid
        return
    assert pack_chain(chain) == data, "a second spelling"
    believed = refused(lambda: check_chain(chain, BOB.id, MESH.id, NOW), CertificateRefused) is None
    assert believed == (data == valid)


def _renewal(draw: Draw) -> None:
    """A request to renew: changed, nothing comes of it; whole, the same membership for longer."""
    valid = ask_renewal(BOB, CHAINS[BOB.public], NOW)
    data = mutate(valid, draw)
    later = NOW + DAY if draw.flag() else NOW + 200
    try:
        chain = renew(data, BY_ROOT if draw.flag() else Issuer(ALICE, MESH.id, alice_chain()), _trust(), later, 9)
    except CertificateRefused:
        return
    assert data == valid and later - NOW <= 300
    certificate, _ = check_chain(chain, BOB.id, MESH.id, later)
    before, _ = check_chain(CHAINS[BOB.public], BOB.id, MESH.id, NOW)
    assert (certificate.roles, certificate.owner) == (before.roles, before.owner)


def _foreign() -> bytes:
    """A credential that would be good in another mesh."""
    link = certify_link(BOB, X25519, FOREIGN_ROOT.mesh, NOW)
    return codec.encode(Credential(link, Issuer(FOREIGN_ROOT, FOREIGN_ROOT.mesh).issue(BOB.id, NOW, 1), "a name"))


def seeds() -> dict[str, bytes]:
    """Good ones of a member of the root and of a member's, and near misses."""
    good_link = b"\x00\x01\x01\x02\x05\x01\x01"
    by_root = b"\x00\x00\x01\x00\x01\x00\x00\x02\x04\x00\x07\x01\x01\x01"
    return {
        "alice": b"\x01\x00",
        "bob-changed": b"\x01\x01" + b"\x00\x00\x80\x01",
        "of-another-mesh": b"\x00" + _foreign(),
        "made": b"\x02" + good_link + b"\x01" + by_root + b"\x01" + b"a" + b"\x00\x00\x00",
        "made-barred": b"\x02" + good_link + b"\x01" + by_root + b"\x01" + b"a" + b"\x01\x00\x00",
        "chain": b"\x03",
        "chain-swapped": b"\x03" + b"\x05\x00\x80\x00\x00\xff",
        "renewal": b"\x04",
    }
