from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import HandshakeFailed, IdentityError, ProtocolViolation
from meshnode.noise import Established, Initiator, Preface, Responder, Secrets, StaticKey, prologue
from meshnode.noise.handshake import MAX_PAYLOAD_BYTES
from tests.kit import noise_spec

MESH = bytes(range(32))
SECRETS = Secrets.derive(b"n" * 32, b"member")
OTHER = Secrets.derive(b"o" * 32, b"member")
MEMBER = Preface()


@dataclass
class Pair:
    """Both roles with everything that may differ between them."""

    secrets: Secrets = SECRETS
    answering: Secrets | list[Secrets] | None = field(default_factory=lambda: SECRETS)
    preface: Preface = MEMBER
    mesh: bytes = MESH
    asked: list[Preface] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.initiator_key, self.responder_key = StaticKey.generate(), StaticKey.generate()
        self.initiator = Initiator(self.preface, self.secrets, self.initiator_key, b"from dialler", prologue(self.mesh))
        self.responder = Responder(
            self.select, self.responder_key, lambda preface: b"from listener", lambda preface: prologue(MESH)
        )

    def select(self, preface: Preface) -> Secrets | list[Secrets] | None:
        self.asked.append(preface)
        return self.answering

    def finish(self) -> tuple[Established, Established]:
        assert self.responder.receive(self.initiator.bytes_to_send()) is None
        dialled = self.initiator.receive(self.responder.bytes_to_send())
        answered = self.responder.receive(self.initiator.bytes_to_send())
        assert dialled is not None
        assert answered is not None
        return dialled, answered


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def assert_over(machine: Initiator | Responder) -> None:
    with pytest.raises(HandshakeFailed):
        machine.receive(b"")
    with pytest.raises(HandshakeFailed):
        machine.bytes_to_send()


class TestSuccess:
    def test_each_side_learns_the_others_key_and_payload(self) -> None:
        pair = Pair()
        dialled, answered = pair.finish()
        assert dialled.remote_static == pair.responder_key.public
        assert dialled.remote_payload == b"from listener"
        assert answered.remote_static == pair.initiator_key.public
        assert answered.remote_payload == b"from dialler"
        assert dialled.preface == answered.preface == MEMBER

    def test_both_sides_have_the_same_handshake_hash_and_no_two_handshakes_do(self) -> None:
        found = [Pair().finish() for _ in range(3)]
        bindings = [dialled.transport.binding for dialled, _ in found]
        assert bindings == [answered.transport.binding for _, answered in found]
        assert len({*bindings}) == 3
        assert {len(binding) for binding in bindings} == {32}

    def test_records_flow_both_ways_afterwards(self) -> None:
        dialled, answered = Pair().finish()
        assert answered.transport.open(dialled.transport.seal(b"ping")) == [b"ping"]
        assert dialled.transport.open(answered.transport.seal(b"pong")) == [b"pong"]

    def test_records_that_follow_at_once_are_surplus(self) -> None:
        pair = Pair()
        pair.responder.receive(pair.initiator.bytes_to_send())
        dialled = pair.initiator.receive(pair.responder.bytes_to_send())
        assert dialled is not None
        answered = pair.responder.receive(pair.initiator.bytes_to_send() + dialled.transport.seal(b"early") + b"\x00")
        assert answered is not None
        assert answered.transport.open(answered.surplus) == [b"early"]

    def test_a_joiner_shows_its_hint(self) -> None:
        pair = Pair(preface=Preface(b"8 bytes."))
        _, answered = pair.finish()
        assert pair.asked == [Preface(b"8 bytes.")]
        assert answered.preface.hint == b"8 bytes."

    @pytest.mark.parametrize("secrets", [SECRETS, OTHER])
    def test_old_and_new_network_secret_are_both_accepted(self, secrets: Secrets) -> None:
        pair = Pair(secrets=secrets, answering=[OTHER, SECRETS])
        pair.finish()
        assert len(pair.asked) == 1

    def test_the_largest_payloads_fit(self) -> None:
        payload = bytes(MAX_PAYLOAD_BYTES)
        initiator = Initiator(MEMBER, SECRETS, StaticKey.generate(), payload, b"")
        responder = Responder(lambda _: SECRETS, StaticKey.generate(), lambda _: payload, lambda _: b"")
        responder.receive(initiator.bytes_to_send())
        dialled = initiator.receive(responder.bytes_to_send())
        answered = responder.receive(initiator.bytes_to_send())
        assert dialled is not None
        assert answered is not None
        assert dialled.remote_payload == answered.remote_payload == payload

    @given(st.data())
    @settings(deadline=None, max_examples=30)
    def test_any_cut_of_the_wire_gives_the_same(self, data: st.DataObject) -> None:
        pair = Pair(preface=data.draw(st.sampled_from([MEMBER, Preface(b"hinthint")])))
        results: dict[str, Established] = {}
        for _ in range(2):
            for name, sender, receiver in (
                ("answered", pair.initiator, pair.responder),
                ("dialled", pair.responder, pair.initiator),
            ):
                wire = sender.bytes_to_send()
                while wire:
                    cut = data.draw(st.integers(1, len(wire)))
                    established = receiver.receive(wire[:cut])
                    wire = wire[cut:]
                    if established is not None:
                        results[name] = established
        assert results["dialled"].remote_payload == b"from listener"
        assert results["answered"].remote_payload == b"from dialler"
        assert results["answered"].surplus == results["dialled"].surplus == b""


class TestStrangers:
    """T3: whoever lacks the secret reads zero bytes."""

    @pytest.mark.parametrize(
        "pair",
        [
            Pair(secrets=OTHER),
            Pair(answering=None),
            Pair(answering=[]),
            Pair(answering=[OTHER]),
            Pair(mesh=b"another mesh"),
            Pair(secrets=Secrets(OTHER.psk0, SECRETS.psk3)),
        ],
        ids=["secret", "unknown", "none", "only another", "mesh", "psk0"],
    )
    def test_a_stranger_gets_no_byte(self, pair: Pair) -> None:
        with pytest.raises(HandshakeFailed):
            pair.responder.receive(pair.initiator.bytes_to_send())
        assert_over(pair.responder)

    def test_half_the_secret_ends_at_the_third_message(self) -> None:
        pair = Pair(secrets=Secrets(SECRETS.psk0, OTHER.psk3))
        pair.responder.receive(pair.initiator.bytes_to_send())
        assert pair.initiator.receive(pair.responder.bytes_to_send()) is not None
        with pytest.raises(HandshakeFailed):
            pair.responder.receive(pair.initiator.bytes_to_send())
        assert_over(pair.responder)

    def test_another_version_range_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("meshnode.noise.handshake.VERSIONS", (1, 2))
        theirs = prologue(MESH)
        monkeypatch.undo()
        assert theirs != prologue(MESH)
        initiator = Initiator(MEMBER, SECRETS, StaticKey.generate(), b"", theirs)
        with pytest.raises(HandshakeFailed):
            Pair().responder.receive(initiator.bytes_to_send())

    @pytest.mark.parametrize("greeting", [b"GET / HTTP/1.1\r\n\r\n", b"\x00", b"\x16\x03\x01", b"\xff" * 60])
    def test_another_protocol_is_refused_at_its_first_byte(self, greeting: bytes) -> None:
        responder = Pair().responder
        with pytest.raises(HandshakeFailed):
            responder.receive(greeting)
        assert_over(responder)

    @given(st.binary(max_size=200))
    @settings(deadline=None, max_examples=100)
    def test_noise_on_the_line_is_never_answered(self, junk: bytes) -> None:
        responder = Pair().responder
        try:
            responder.receive(b"\x01" + junk)
        except HandshakeFailed:
            assert_over(responder)
        else:
            assert responder.bytes_to_send() == b""

    def test_what_select_raises_passes_and_ends_it(self) -> None:
        def refuse(preface: Preface) -> Secrets:
            raise IdentityError("the invite has expired")

        responder = Responder(refuse, StaticKey.generate(), lambda _: b"", lambda _: prologue(MESH))
        with pytest.raises(IdentityError):
            responder.receive(Pair().initiator.bytes_to_send())
        assert_over(responder)

    def test_nobody_is_asked_for_secrets_before_the_first_message_is_whole(self) -> None:
        pair = Pair()
        pair.responder.receive(pair.initiator.bytes_to_send()[:-1])
        assert pair.asked == []
        assert pair.responder.bytes_to_send() == b""


class TestDamage:
    """T1, T2: every bit counts."""

    def test_every_bit_of_the_first_message_counts(self) -> None:
        wire = Pair(preface=Preface(b"hinthint")).initiator.bytes_to_send()
        for bit in range(len(wire) * 8):
            responder = Pair().responder
            try:
                # Bytes follow, so that a longer announced length is not merely waited for.
                responder.receive(flipped(wire, bit) + bytes(100))
            except HandshakeFailed:
                assert_over(responder)
            else:
                pytest.fail(f"bit {bit} does not count")

    def test_every_bit_of_the_second_message_counts(self) -> None:
        size = 0
        bit = 0
        while bit == 0 or bit < size * 8:
            pair = Pair()
            pair.responder.receive(pair.initiator.bytes_to_send())
            wire = pair.responder.bytes_to_send()
            size = len(wire)
            with pytest.raises(HandshakeFailed):
                pair.initiator.receive(flipped(wire, bit) + bytes(2048))
            assert_over(pair.initiator)
            bit += 1
        assert size > 100

    def test_every_bit_of_the_third_message_counts(self) -> None:
        size = 0
        bit = 0
        while bit == 0 or bit < size * 8:
            pair = Pair()
            pair.responder.receive(pair.initiator.bytes_to_send())
            pair.initiator.receive(pair.responder.bytes_to_send())
            wire = pair.initiator.bytes_to_send()
            size = len(wire)
            with pytest.raises(HandshakeFailed):
                pair.responder.receive(flipped(wire, bit) + bytes(2048))
            assert_over(pair.responder)
            bit += 1
        assert size > 60

    @pytest.mark.parametrize("message", [1, 2, 3])
    def test_a_thousand_flips_in_each_message_of_a_handshake_with_credentials(self, message: int) -> None:
        """As large as two certificates make it; both directions."""
        rng = Random(message)
        payload = rng.randbytes(600)
        static = StaticKey.generate()
        for _ in range(1000):
            first = Initiator(MEMBER, SECRETS, static, payload, prologue(MESH))
            second = Responder(lambda _: SECRETS, static, lambda _: payload, lambda _: prologue(MESH))
            ends: list[Initiator | Responder] = [first, second, first]
            for number in range(1, message):
                assert ends[number % 2].receive(ends[number - 1].bytes_to_send()) is None or number == 2
            wire = ends[message - 1].bytes_to_send()
            receiver = ends[message % 2]
            with pytest.raises(HandshakeFailed):
                receiver.receive(flipped(wire, rng.randrange(len(wire) * 8)) + bytes(2048))
            assert_over(receiver)

    @pytest.mark.parametrize("size", [2049, 65_535])
    def test_an_oversized_message_is_refused_by_its_length_alone(self, size: int) -> None:
        pair = Pair()
        pair.initiator.bytes_to_send()
        with pytest.raises(HandshakeFailed, match=str(size)):
            pair.initiator.receive(size.to_bytes(2, "big"))
        assert_over(pair.initiator)

    def test_a_first_message_has_no_room_for_a_payload(self) -> None:
        spec = noise_spec.Party(
            True, prologue(MESH) + b"\x01", [SECRETS.psk0, SECRETS.psk3], X25519PrivateKey.generate()
        )
        message = spec.write(b"payload")
        with pytest.raises(HandshakeFailed):
            Pair().responder.receive(b"\x01" + len(message).to_bytes(2, "big") + message)

    @pytest.mark.parametrize("size", range(0, 48, 7))
    def test_a_first_message_cut_short_is_refused(self, size: int) -> None:
        wire = Pair().initiator.bytes_to_send()
        with pytest.raises(HandshakeFailed):
            Pair().responder.receive(b"\x01" + size.to_bytes(2, "big") + wire[3 : 3 + size])

    def test_a_low_order_ephemeral_is_refused(self) -> None:
        spec = noise_spec.Party(
            True, prologue(MESH) + b"\x01", [SECRETS.psk0, SECRETS.psk3], X25519PrivateKey.generate()
        )
        spec.state.mix_key_and_hash(SECRETS.psk0)
        zero = bytes(32)
        spec.state.mix_hash(zero)
        spec.state.mix_key(zero)
        message = zero + spec.state.encrypt_and_hash(b"")
        responder = Pair().responder
        with pytest.raises(HandshakeFailed):
            responder.receive(b"\x01\x00\x30" + message)
        assert_over(responder)

    def test_a_payload_of_our_own_that_does_not_fit_is_our_fault(self) -> None:
        with pytest.raises(ValueError, match="1952"):
            Initiator(MEMBER, SECRETS, StaticKey.generate(), bytes(MAX_PAYLOAD_BYTES + 1), b"")

    def test_after_the_result_the_handshake_takes_nothing_more(self) -> None:
        pair = Pair()
        pair.finish()
        for machine in (pair.initiator, pair.responder):
            with pytest.raises(HandshakeFailed):
                machine.receive(b"x")


class TestSecondOpinion:
    """Against the implementation written from the specification, in both roles."""

    def party(self, initiator: bool, preface: Preface) -> noise_spec.Party:
        mixed = b"meshnode link\x00\x01\x01" + hashlib.sha256(MESH).digest() + preface.encode()
        return noise_spec.Party(initiator, mixed, [SECRETS.psk0, SECRETS.psk3], X25519PrivateKey.generate())

    @pytest.mark.parametrize("preface", [MEMBER, Preface(b"01234567")], ids=["member", "joiner"])
    def test_our_initiator_speaks_noise(self, preface: Preface) -> None:
        ours, theirs = Pair(preface=preface), self.party(False, preface)
        wire = ours.initiator.bytes_to_send()
        head = len(preface.encode()) + 2
        assert theirs.read(wire[head:]) == b""
        dialled = ours.initiator.receive(framed(theirs.write(b"spec payload")))
        assert dialled is not None
        assert dialled.remote_payload == b"spec payload"
        assert dialled.remote_static == noise_spec.public(theirs.s)
        assert theirs.read(ours.initiator.bytes_to_send()[2:]) == b"from dialler"
        assert theirs.rs == ours.initiator_key.public
        self.exchange(dialled, theirs)

    @pytest.mark.parametrize("preface", [MEMBER, Preface(b"01234567")], ids=["member", "joiner"])
    def test_our_responder_speaks_noise(self, preface: Preface) -> None:
        ours, theirs = Pair(), self.party(True, preface)
        ours.responder.receive(preface.encode() + framed(theirs.write(b"")))
        assert theirs.read(ours.responder.bytes_to_send()[2:]) == b"from listener"
        answered = ours.responder.receive(framed(theirs.write(b"spec payload")))
        assert answered is not None
        assert answered.remote_payload == b"spec payload"
        assert answered.remote_static == noise_spec.public(theirs.s)
        self.exchange(answered, theirs)

    def exchange(self, ours: Established, theirs: noise_spec.Party) -> None:
        assert theirs.sending is not None
        assert theirs.receiving is not None
        for number in range(3):
            text = f"record {number}".encode()
            assert theirs.receiving.decrypt(b"", ours.transport.seal(text)[2:]) == text
            assert ours.transport.open(framed(theirs.sending.encrypt(b"", text))) == [text]
        with pytest.raises(ProtocolViolation):
            ours.transport.open(framed(theirs.sending.encrypt(b"ad", b"associated data is not ours")))


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


class TestSecrets:
    def test_nothing_secret_is_shown(self) -> None:
        dialled, _ = Pair().finish()
        shown = repr(SECRETS) + repr(dialled) + repr(StaticKey.generate())
        assert repr(SECRETS.psk0) not in shown
        assert "from listener" not in shown

    def test_purposes_give_unrelated_keys(self) -> None:
        one, other = Secrets.derive(b"s" * 16, b"join"), Secrets.derive(b"s" * 16, b"member")
        assert len({one.psk0, one.psk3, other.psk0, other.psk3}) == 4

    def test_derivation_is_hkdf_of_rfc_5869(self) -> None:
        extracted = noise_spec.hmac.digest(bytes(32), b"s" * 16, "sha256")
        info = b"meshnode psk 1\x00join"
        first = noise_spec.hmac.digest(extracted, info + b"\x01", "sha256")
        second = noise_spec.hmac.digest(extracted, first + info + b"\x02", "sha256")
        assert Secrets.derive(b"s" * 16, b"join") == Secrets(first, second)

    @pytest.mark.parametrize("size", [0, 31, 33])
    def test_a_key_of_another_size_is_refused(self, size: int) -> None:
        with pytest.raises(ValueError, match="32"):
            Secrets(bytes(size), bytes(32))

    @pytest.mark.parametrize("size", [0, 7, 9])
    def test_a_hint_of_another_size_is_refused(self, size: int) -> None:
        with pytest.raises(ValueError, match="8"):
            Preface(bytes(size))
