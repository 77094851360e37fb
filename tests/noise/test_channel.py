"""Two Channels and what runs between them, cut anywhere; a hostile member at one end; time handed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.config.mesh import MeshSection
from meshnode.errors import CertificateRefused, HandshakeFailed, LinkError, ProtocolViolation
from meshnode.model.ids import NodeId
from meshnode.noise import Channel, Initiator, Preface, Rekeying, Responder, Secrets, StaticKey, Transport, prologue
from meshnode.noise.channel import HANDSHAKE, MAX_REASON_BYTES, NEW_KEYS, REFUSAL
from meshnode.noise.transport import WORN_MESSAGES
from tests.noise.test_handshake import Pair, flipped

SECTION = MeshSection(rekey_s=3600, handshake_timeout_s=5)
ALICE, BOB, MALLORY = NodeId(b"a" * 32), NodeId(b"b" * 32), NodeId(b"m" * 32)
SECRETS = Secrets.derive(b"n" * 32, b"member")
MESH = prologue(b"mesh")
PAYLOAD_BYTES = 100

Judge = Callable[[bytes, bytes], tuple[NodeId, Any]]


def credential(me: NodeId) -> bytes:
    return bytes(me).ljust(PAYLOAD_BYTES, b".")


def check(payload: bytes, remote_static: bytes) -> tuple[NodeId, str]:
    return NodeId(payload[:32]), "fresh"


def refuse(payload: bytes, remote_static: bytes) -> tuple[NodeId, str]:
    raise CertificateRefused("it was revoked\x1b[31m")


def initiator(me: NodeId, mixed: bytes, preface: Preface = Preface()) -> Initiator:  # noqa: B008
    return Initiator(preface, SECRETS, StaticKey.generate(), credential(me), MESH + mixed)


def responder(me: NodeId, mixed: bytes) -> Responder:
    return Responder(lambda _: SECRETS, StaticKey.generate(), lambda _: credential(me), lambda _: MESH + mixed)


def terms(me: NodeId, judge: Judge = check) -> Rekeying:
    return Rekeying(lambda mixed: initiator(me, mixed), lambda mixed: responder(me, mixed), judge)


@dataclass
class Ends:
    """A dialer's and a listener's Channel after an ordinary handshake, at the time 0."""

    dialer_terms: Rekeying | None = field(default_factory=lambda: terms(ALICE))
    listener_terms: Rekeying | None = field(default_factory=lambda: terms(BOB))
    section: MeshSection = SECTION

    def __post_init__(self) -> None:
        dialled, answered = Pair().finish()
        self.dialer = Channel(dialled.transport, BOB, self.section, self.dialer_terms, 0.0, initiator=True)
        self.listener = Channel(answered.transport, ALICE, self.section, self.listener_terms, 0.0, initiator=False)
        self.now = 0.0

    def carry(self, frm: Channel, *records: bytes) -> list[bytes]:
        """One flush of one end, and what the other end makes of it."""
        return (self.listener if frm is self.dialer else self.dialer).open(frm.seal(records), self.now)

    def begin(self) -> None:
        self.now += SECTION.rekey_s
        self.dialer.tick(self.now)

    def renew(self) -> None:
        """A whole handshake, three flushes."""
        self.begin()
        for end in (self.dialer, self.listener, self.dialer, self.listener):
            assert self.carry(end) == []

    def renew_now(self) -> None:
        """The same without a second passing."""
        self.dialer.made_at = -1e9
        self.dialer.tick(self.now)
        for end in (self.dialer, self.listener, self.dialer, self.listener):
            self.carry(end)

    def say(self, frm: Channel, record: bytes) -> list[bytes]:
        """What a hostile member would: a record of any kind under the right keys."""
        return self.carry(frm, record)


def assert_over(channel: Channel) -> None:
    with pytest.raises(ProtocolViolation):
        channel.open(b"", 0.0)


class TestRenewal:
    def test_both_directions_come_under_new_keys(self) -> None:
        ends = Ends()
        old = ends.dialer._sending
        ends.renew()
        assert ends.dialer.rekeyed == ends.listener.rekeyed == 1
        assert ends.dialer._sending is ends.dialer._receiving is not old
        assert ends.dialer._sending.binding == ends.listener._sending.binding != old.binding
        assert ends.carry(ends.dialer, b"\x00one") == [b"\x00one"]
        assert ends.carry(ends.listener, b"\x01two") == [b"\x01two"]
        with pytest.raises(ProtocolViolation):
            ends.listener.open(old.seal(b"\x00under the old keys"), ends.now)

    def test_it_happens_again_and_again_each_bound_to_the_last(self) -> None:
        ends = Ends()
        bindings = []
        for _ in range(4):
            ends.renew()
            bindings.append(ends.dialer._sending.binding)
        assert len(set(bindings)) == 4
        assert ends.dialer.rekeyed == ends.listener.rekeyed == 4

    def test_the_fresh_membership_replaces_the_old_one(self) -> None:
        ends = Ends()
        assert ends.dialer.membership is ends.listener.membership is None
        ends.renew()
        assert ends.dialer.membership == ends.listener.membership == "fresh"

    def test_neither_ephemeral_nor_session_keys_come_again(self) -> None:
        ends = Ends()
        seen = set()
        for _ in range(3):
            ends.begin()
            wire = ends.dialer.seal([])
            (record,) = peeked(ends.listener, wire)
            seen.add(record[4:36])
            ends.listener.open(wire, ends.now)
            for end in (ends.listener, ends.dialer, ends.listener):
                ends.carry(end)
        assert len(seen) == 3

    def test_a_record_before_the_switch_is_under_the_old_keys_and_one_behind_it_under_the_new(self) -> None:
        ends = Ends()
        ends.begin()
        ends.carry(ends.dialer, b"\x00before")
        assert ends.carry(ends.listener, b"\x01before") == [b"\x01before"]
        # The dialer has switched; the listener learns of it in this very flush, and has not switched itself.
        assert ends.carry(ends.dialer, b"\x00behind") == [b"\x00behind"]
        assert ends.listener.rekeyed == 1
        assert ends.dialer.rekeyed == 0
        assert ends.carry(ends.listener, b"\x01behind") == [b"\x01behind"]
        assert ends.dialer.rekeyed == 1

    @given(data=st.data())
    @settings(deadline=None, max_examples=60)
    def test_any_cut_and_any_interleaving_lose_nothing(self, data: st.DataObject) -> None:
        ends = Ends()
        wires = {"dialer": b"", "listener": b""}
        sent: dict[str, list[bytes]] = {"dialer": [], "listener": []}
        got: dict[str, list[bytes]] = {"dialer": [], "listener": []}
        channels = {"dialer": ends.dialer, "listener": ends.listener}
        other = {"dialer": "listener", "listener": "dialer"}

        def flush(name: str, count: int) -> None:
            records = [b"%c%s %d" % (count % 2, name.encode(), len(sent[name]) + n) for n in range(count)]
            sent[name] += records
            wires[name] += channels[name].seal(records)

        def deliver(name: str, size: int) -> None:
            piece, wires[name] = wires[name][:size], wires[name][size:]
            got[name] += channels[other[name]].open(piece, ends.now)

        for _ in range(data.draw(st.integers(1, 3))):
            ends.begin()
            for _ in range(data.draw(st.integers(5, 25))):
                name = data.draw(st.sampled_from(["dialer", "listener"]))
                if data.draw(st.booleans()):
                    flush(name, data.draw(st.integers(0, 4)))
                elif wires[name]:
                    deliver(name, data.draw(st.integers(1, len(wires[name]))))
            while any(wires.values()) or any(channel.wants_to_send for channel in channels.values()):
                for name in channels:
                    flush(name, 1)
                    deliver(name, len(wires[name]))
                    if ends.dialer._began_at is None and ends.listener._began_at is None and not any(wires.values()):
                        break
        assert got == sent
        assert ends.dialer.rekeyed == ends.listener.rekeyed >= 1

    def test_byte_by_byte_is_a_cut_like_any_other(self) -> None:
        ends = Ends()
        ends.begin()
        found = {True: b"", False: b""}
        for _ in range(3):
            for sender, receiver in ((ends.dialer, ends.listener), (ends.listener, ends.dialer)):
                for byte in sender.seal([b"\x00x", b"\x01y"]):
                    found[sender is ends.dialer] += b"".join(receiver.open(bytes([byte]), ends.now))
        assert found == {True: b"\x00x\x01y" * 3, False: b"\x00x\x01y" * 3}
        assert ends.dialer.rekeyed == ends.listener.rekeyed == 1


def peeked(channel: Channel, wire: bytes) -> list[bytes]:
    record = channel._receiving.peek(wire)
    return [record] if record is not None else []


class TestWhen:
    def test_a_dialer_begins_when_the_keys_are_old_up_to_a_tenth_early(self) -> None:
        for _ in range(20):
            ends = Ends()
            ends.dialer.tick(SECTION.rekey_s * 0.9 - 1)
            assert not ends.dialer.wants_to_send
            ends.dialer.tick(SECTION.rekey_s)
            assert ends.dialer.wants_to_send

    def test_links_of_one_age_do_not_begin_together(self) -> None:
        early = 0
        for _ in range(40):
            ends = Ends()
            ends.dialer.tick(SECTION.rekey_s * 0.95)
            early += ends.dialer.wants_to_send
        assert 5 < early < 35

    def test_a_listener_never_begins(self) -> None:
        ends = Ends()
        ends.listener.tick(SECTION.rekey_s * 1.5)
        assert not ends.listener.wants_to_send

    def test_worn_keys_are_old(self) -> None:
        ends = Ends()
        ends.dialer._receiving._opened = WORN_MESSAGES
        ends.dialer.tick(1.0)
        assert ends.dialer.wants_to_send

    def test_without_terms_nothing_begins(self) -> None:
        ends = Ends(None, None)
        ends.dialer.tick(1e9)
        ends.listener.tick(1e9)
        assert not ends.dialer.wants_to_send

    def test_a_dialer_that_shortens_its_period_still_keeps_the_peers_rule(self) -> None:
        """Each 5 s is due at once; the listener lets one a minute pass, and none of these is too early for it."""
        ends = Ends(section=MeshSection(rekey_s=0.1))
        for second in range(0, 1200, 5):
            ends.now = float(second)
            ends.dialer.tick(ends.now)
            for end in (ends.dialer, ends.listener, ends.dialer, ends.listener):
                ends.carry(end)
        assert 15 <= ends.listener.rekeyed <= 21

    @pytest.mark.parametrize("flushes", [0, 1, 2])
    def test_an_unfinished_handshake_ends_the_link(self, flushes: int) -> None:
        ends = Ends()
        ends.begin()
        for end in (ends.dialer, ends.listener)[:flushes]:
            ends.carry(end)
        waiting = [ends.dialer] if flushes == 0 else [ends.dialer, ends.listener]
        for end in waiting:
            end.tick(ends.now + 30)
            with pytest.raises(HandshakeFailed, match="within 30 s"):
                end.tick(ends.now + 31)

    def test_a_peer_that_lets_the_keys_grow_old_loses_the_link(self) -> None:
        ends = Ends()
        ends.listener.tick(2 * SECTION.rekey_s + 30)
        with pytest.raises(HandshakeFailed, match="grow old"):
            ends.listener.tick(2 * SECTION.rekey_s + 31)

    def test_age_counts_from_the_last_switch(self) -> None:
        ends = Ends()
        ends.renew()
        assert ends.dialer.made_at == ends.listener.made_at == ends.now
        ends.listener.tick(ends.now + 2 * SECTION.rekey_s)


class TestRefusal:
    def test_the_listener_says_why(self) -> None:
        ends = Ends(listener_terms=terms(BOB, refuse))
        ends.begin()
        ends.carry(ends.dialer)
        ends.carry(ends.listener)
        with pytest.raises(HandshakeFailed, match="credential is refused: it was revoked"):
            ends.carry(ends.dialer)
        assert ends.listener.wants_to_send
        with pytest.raises(HandshakeFailed, match=r"refused this node: it was revoked\[31m"):
            ends.carry(ends.listener)
        assert_over(ends.dialer)
        assert_over(ends.listener)
        assert ends.dialer.rekeyed == ends.listener.rekeyed == 0

    def test_the_dialer_judges_first_and_shows_nothing_to_whom_it_refuses(self) -> None:
        ends = Ends(dialer_terms=terms(ALICE, refuse))
        ends.begin()
        ends.carry(ends.dialer)
        with pytest.raises(HandshakeFailed, match="it was revoked"):
            ends.carry(ends.listener)
        assert ends.dialer.seal([]) == b""

    @pytest.mark.parametrize("changed", ["dialer", "listener"])
    def test_another_member_than_before_is_refused(self, changed: str) -> None:
        ends = Ends(terms(MALLORY if changed == "dialer" else ALICE), terms(MALLORY if changed == "listener" else BOB))
        ends.begin()
        with pytest.raises(HandshakeFailed, match=MALLORY.short):
            for end in (ends.dialer, ends.listener, ends.dialer):
                ends.carry(end)

    def test_a_long_reason_is_cut(self) -> None:
        def refuse_at_length(payload: bytes, remote_static: bytes) -> tuple[NodeId, None]:
            raise CertificateRefused("ä" * 1000)

        ends = Ends(listener_terms=terms(BOB, refuse_at_length))
        ends.begin()
        ends.carry(ends.dialer)
        ends.carry(ends.listener)
        with pytest.raises(HandshakeFailed):
            ends.carry(ends.dialer)
        (record,) = peeked(ends.dialer, ends.listener.seal([]))
        assert record[0] == REFUSAL
        assert len(record) == 1 + MAX_REASON_BYTES

    def test_another_network_secret_refuses(self) -> None:
        other = Secrets.derive(b"o" * 32, b"member")

        def fresh(mixed: bytes) -> Initiator:
            return Initiator(Preface(), other, StaticKey.generate(), credential(ALICE), MESH + mixed)

        ends = Ends(Rekeying(fresh, terms(ALICE).responder, check))
        ends.begin()
        with pytest.raises(HandshakeFailed, match="new handshake on the link"):
            ends.carry(ends.dialer)

    @pytest.mark.parametrize("end", ["dialer", "listener"])
    def test_a_node_whose_own_credential_has_ended_says_so(self, end: str) -> None:
        def ended(mixed: bytes) -> Any:
            raise CertificateRefused("this node's membership has ended")

        broken = Rekeying(ended, ended, check)
        ends = Ends(broken if end == "dialer" else terms(ALICE), broken if end == "listener" else terms(BOB))
        with pytest.raises(HandshakeFailed, match="membership has ended"):
            ends.begin()
            ends.carry(ends.dialer)


class TestDamage:
    """T1, T2 for the handshake inside a link: every bit of every message counts, though the records are whole."""

    def test_every_bit_of_the_first_message_counts(self) -> None:
        self.flip_all([])

    def test_every_bit_of_the_second_message_counts(self) -> None:
        self.flip_all(["dialer"])

    def test_every_bit_of_the_third_message_counts(self) -> None:
        self.flip_all(["dialer", "listener"])

    def flip_all(self, before: list[str]) -> None:
        """3,300 flips in the three tests together."""
        bit = size = 0
        while bit == 0 or bit < size * 8:
            ends = Ends()
            ends.begin()
            for name in before:
                ends.carry(getattr(ends, name))
            sender, receiver = (ends.dialer, ends.listener) if len(before) != 1 else (ends.listener, ends.dialer)
            (record,) = peeked(receiver, sender.seal([]))
            assert record[0] == HANDSHAKE
            # The cipher of the receiver is handed the changed message as if the sender had written it.
            sender._sending._sealed = receiver._receiving._opened
            sender._sending = other_way(receiver)
            with pytest.raises(LinkError):
                receiver.open(sender._sending.seal(record[:1] + flipped(record[1:], bit)), ends.now)
            assert_over(receiver)
            assert receiver.rekeyed == 0
            size = len(record) - 1
            bit += 1
        assert size > 50

    @given(bit=st.integers(0, 10_000), flushes=st.integers(1, 4))
    @settings(deadline=None, max_examples=100)
    def test_a_bit_changed_on_the_wire_ends_it(self, bit: int, flushes: int) -> None:
        ends = Ends()
        ends.begin()
        order = [ends.dialer, ends.listener, ends.dialer, ends.listener]
        for end in order[: flushes - 1]:
            ends.carry(end)
        sender = order[flushes - 1]
        receiver = ends.listener if sender is ends.dialer else ends.dialer
        wire = sender.seal([b"\x00data"])
        with pytest.raises(ProtocolViolation):
            receiver.open(flipped(wire, bit % (len(wire) * 8)) + bytes(65_536), ends.now)
        assert_over(receiver)


def other_way(channel: Channel) -> Transport:
    """A transport that seals what `channel` will accept next."""
    made = object.__new__(Transport)
    for name in ("_buffer", "_dead", "_opened_bytes", "_sealed_bytes", "binding"):
        setattr(made, name, getattr(channel._receiving, name))
    made._sealer = made._opener = channel._receiving._opener
    made._sealed = made._opened = channel._receiving._opened
    return made


class TestReplay:
    @pytest.mark.parametrize("flushes", [1, 2, 3, 4])
    def test_a_replayed_flush_of_a_handshake_ends_the_link(self, flushes: int) -> None:
        ends = Ends()
        ends.begin()
        order = [ends.dialer, ends.listener, ends.dialer, ends.listener]
        for end in order[: flushes - 1]:
            ends.carry(end)
        sender = order[flushes - 1]
        receiver = ends.listener if sender is ends.dialer else ends.dialer
        wire = sender.seal([])
        receiver.open(wire, ends.now)
        if sender.wants_to_send or wire:
            with pytest.raises(ProtocolViolation):
                receiver.open(wire, ends.now)

    def test_reordered_records_around_a_switch_end_the_link(self) -> None:
        ends = Ends()
        ends.begin()
        ends.carry(ends.dialer)
        ends.carry(ends.listener)
        switch, behind = ends.dialer.seal([]), ends.dialer.seal([b"\x00behind"])
        with pytest.raises(ProtocolViolation):
            ends.listener.open(behind + switch, ends.now)

    def test_a_message_of_an_earlier_handshake_is_refused(self) -> None:
        """Bound to the session it was made in, even where the same member says it again."""
        ends = Ends()
        ends.begin()
        wire = ends.dialer.seal([])
        (first,) = peeked(ends.listener, wire)
        ends.listener.open(wire, ends.now)
        for end in (ends.listener, ends.dialer, ends.listener):
            ends.carry(end)
        with pytest.raises(HandshakeFailed):
            ends.say(ends.dialer, first)

    def test_a_handshake_of_a_new_connection_is_refused_inside_a_link(self) -> None:
        ends = Ends()
        with pytest.raises(HandshakeFailed):
            ends.say(ends.dialer, bytes([HANDSHAKE]) + initiator(ALICE, b"").bytes_to_send())

    def test_a_handshake_of_a_link_opens_no_new_connection(self) -> None:
        ends = Ends()
        stranger = responder(BOB, b"")
        with pytest.raises(HandshakeFailed):
            stranger.receive(initiator(ALICE, ends.dialer._sending.binding).bytes_to_send())


class TestOutOfPlace:
    """Each kind of record at each wrong moment closes the link."""

    @pytest.mark.parametrize("sender", ["dialer", "listener"])
    @pytest.mark.parametrize(
        "record",
        [bytes([NEW_KEYS]), bytes([REFUSAL]) + b"no", b"\x05", b"\xff" * 40, bytes([HANDSHAKE]), bytes([HANDSHAKE, 9])],
        ids=["keys", "refusal", "kind 5", "kind 255", "empty", "garbage"],
    )
    @pytest.mark.parametrize("rekeying", [True, False])
    def test_while_nothing_goes_on(self, sender: str, record: bytes, rekeying: bool) -> None:
        ends = Ends() if rekeying else Ends(None, None)
        frm = getattr(ends, sender)
        with pytest.raises(ProtocolViolation):
            ends.say(frm, record)
        assert_over(ends.listener if frm is ends.dialer else ends.dialer)

    def test_the_side_that_was_dialled_begins(self) -> None:
        ends = Ends()
        message = initiator(BOB, ends.dialer._sending.binding).bytes_to_send()
        with pytest.raises(ProtocolViolation, match="dialled begins"):
            ends.say(ends.listener, bytes([HANDSHAKE]) + message)

    def test_a_joiners_preface(self) -> None:
        ends = Ends()
        message = initiator(ALICE, ends.dialer._sending.binding, Preface(b"8 bytes.")).bytes_to_send()
        with pytest.raises(ProtocolViolation, match="not a member's"):
            ends.say(ends.dialer, bytes([HANDSHAKE]) + message)

    def test_a_handshake_where_none_is_known(self) -> None:
        ends = Ends(listener_terms=None)
        ends.begin()
        with pytest.raises(ProtocolViolation):
            ends.carry(ends.dialer)

    @pytest.mark.parametrize("receiver", ["dialer", "listener"])
    @pytest.mark.parametrize("record", [bytes([NEW_KEYS]), bytes([REFUSAL]) + b"no"], ids=["keys", "refusal"])
    def test_keys_or_a_refusal_before_the_second_message(self, receiver: str, record: bytes) -> None:
        ends = Ends()
        ends.begin()
        ends.carry(ends.dialer)
        to = getattr(ends, receiver)
        with pytest.raises(ProtocolViolation):
            to.open(other_way(to).seal(record), ends.now)

    def test_a_listener_that_switches_early_has_no_keys_to_go_on_with(self) -> None:
        """They depend on the third message, which it has not seen."""
        ends = Ends()
        ends.begin()
        ends.carry(ends.dialer)
        ends.carry(ends.listener)
        ends.dialer.open(other_way(ends.dialer).seal(bytes([NEW_KEYS])), ends.now)
        with pytest.raises(ProtocolViolation):
            ends.carry(ends.listener, b"\x00under the old keys")

    def test_a_refusal_by_the_dialer(self) -> None:
        ends = Ends()
        ends.begin()
        ends.carry(ends.dialer)
        with pytest.raises(ProtocolViolation):
            ends.say(ends.dialer, bytes([REFUSAL]) + b"no")

    def test_a_refusal_behind_the_switch(self) -> None:
        ends = Ends()
        ends.renew()
        with pytest.raises(ProtocolViolation):
            ends.say(ends.listener, bytes([REFUSAL]) + b"no")

    def test_a_switch_that_carries_something(self) -> None:
        ends = Ends()
        ends.begin()
        ends.carry(ends.dialer)
        ends.carry(ends.listener)
        wire = ends.dialer.seal([])
        third = wire[: 2 + int.from_bytes(wire[:2], "big")]
        ends.listener.open(third, ends.now)
        with pytest.raises(ProtocolViolation):
            ends.listener.open(other_way(ends.listener).seal(bytes([NEW_KEYS]) + b"x"), ends.now)

    def test_a_second_switch(self) -> None:
        ends = Ends()
        ends.renew()
        with pytest.raises(ProtocolViolation):
            ends.say(ends.dialer, bytes([NEW_KEYS]))

    def test_a_message_in_pieces(self) -> None:
        ends = Ends()
        message = initiator(ALICE, ends.dialer._sending.binding).bytes_to_send()
        with pytest.raises(ProtocolViolation, match="pieces"):
            ends.say(ends.dialer, bytes([HANDSHAKE]) + message[:-1])

    def test_bytes_behind_a_message(self) -> None:
        ends = Ends()
        ends.begin()
        ends.carry(ends.dialer)
        (record,) = peeked(ends.dialer, ends.listener.seal([]))
        with pytest.raises(ProtocolViolation, match="behind"):
            ends.dialer.open(other_way(ends.dialer).seal(record + b"x"), ends.now)

    def test_another_handshake_while_one_goes_on(self) -> None:
        ends = Ends()
        ends.begin()
        ends.carry(ends.dialer)
        with pytest.raises(LinkError):
            ends.say(
                ends.dialer,
                bytes([HANDSHAKE]) + initiator(ALICE, ends.dialer._sending.binding).bytes_to_send(),
            )

    def test_a_handshake_message_after_the_last(self) -> None:
        ends = Ends()
        ends.begin()
        ends.carry(ends.dialer)
        ends.carry(ends.listener)
        ends.carry(ends.dialer)
        with pytest.raises(ProtocolViolation):
            ends.say(ends.listener, bytes([HANDSHAKE]) + b"more")

    def test_more_than_one_a_minute(self) -> None:
        """From a dialer that keeps no account of its own. The first is not counted."""
        ends = Ends()
        for _ in range(2):
            ends.dialer._starts = 9.0
            ends.renew_now()
        assert ends.listener.rekeyed == 2
        ends.dialer._starts = 9.0
        with pytest.raises(ProtocolViolation, match="too many handshakes"):
            ends.renew_now()
