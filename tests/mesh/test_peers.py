"""Links between whole nodes: what goes wrong at one ends that one, and it comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import trio
from trio import sleep
from trio.testing import MockClock

from meshnode.errors import LinkClosed, LinkError, ProtocolViolation, SecretFileError, Tampered
from meshnode.gossip.overlay import CROSSED_S
from meshnode.gossip.overlay_events import Shed
from meshnode.mesh import address_book
from meshnode.mesh.gossiper import Gossiper
from meshnode.model.advert import ModelOffer
from meshnode.net import Link
from tests.kit.world import world
from tests.mesh.few import few, node_id
from tests.net.kit import ask, read_all


async def test_a_crash_at_a_dialled_link_ends_that_link_only(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry, crashes = Gossiper.carry, 0

    async def crash_twice(self: Gossiper, link: Link) -> None:
        nonlocal crashes
        if link.initiator and crashes < 2:
            crashes += 1
            raise ValueError("a fault of ours")
        await carry(self, link)

    monkeypatch.setattr(Gossiper, "carry", crash_twice)
    async with world(tmp_path) as where:
        await where.add("server")
        node = await where.add("node", peers=("server",))
        await node.until_reachable({"server"})
        assert crashes == 2


async def test_a_link_whose_gossip_broke_is_made_anew(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        server = await where.add("server")
        node = await where.add("node", peers=("server",), listens=False)
        await node.until_reachable({"server"})
        before = node.member.link(server.id)
        assert before is not None
        for stream in list(before._streams._by_key.values()):
            stream.reset()
        await sleep(30.0)
        advert = node.member._advert
        assert advert is not None and node.member.link(server.id) is not before
        node.member.describe(msgspec.structs.replace(advert, models=(ModelOffer("new"),)))
        await server.until_reachable({"node"}, model_of="node")


async def test_a_node_whose_disk_is_full_goes_on(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SecretFileError("cannot write: No space left on device")

    monkeypatch.setattr(address_book, "save_addresses", full)
    async with world(tmp_path) as where:
        await where.add("server")
        node = await where.add("node", peers=("server",))
        await sleep(60.0)
        assert node.reachable() == {"server"}


# Links alone, on a virtual net.


async def test_links_come_back_when_they_break_and_one_is_kept_for_each_pair(autojump_clock: MockClock) -> None:
    async with few() as where:
        one, two = await where.add("one"), await where.add("two")
        one.know(two)
        two.know(one)
        await one.until(two)
        await two.until(one)
        await sleep(20.0)
        assert len([link for link in one.links if link.reason is None]) == 1
        one.links[-1]._end(LinkClosed("a cable was pulled"))
        await one.until()
        await one.until(two)
        assert one.peers.reached() == ((two.id, ("two:6375",)),)


async def test_of_two_dials_that_cross_one_link_is_kept_at_both_ends(autojump_clock: MockClock) -> None:
    async with few() as where:
        one, two = await where.add("one", peers=("two:6375",)), await where.add("two", peers=("one:6375",))
        await sleep(3.0)
        await one.until(two)
        await two.until(one)
        mine, theirs = one.peers.link(two.id), two.peers.link(one.id)
        assert mine is not None and theirs is not None and mine.initiator != theirs.initiator
        assert len([link for link in one.links + two.links if link.reason is None]) == 2


async def test_streams_of_a_link_that_is_replaced_end(autojump_clock: MockClock) -> None:
    async with few() as where:
        one, two = await where.add("one", peers=("two:6375",), full_mesh_nodes=0), await where.add("two")
        await one.until(two)
        await two.until(one)
        old = one.peers.link(two.id)
        assert old is not None
        stream = await old.request(ask(), end=False)
        await sleep(6.0)
        where.nursery.start_soon(one.peers.live, await one._connect(("two:6375",), two.id))
        with pytest.raises(LinkError):
            await stream.head()
            await stream.receive_some()
        while one.peers.link(two.id) in (old, None):
            await one.changed.wait()
        assert old.reason is not None


async def test_a_peer_that_breaks_the_protocol_is_shut_out_and_let_in_again(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with few() as where:
        one, two = await where.add("one"), await where.add("two", peers=("one:6375",))
        await one.until(two)
        begin = trio.current_time()
        one.links[-1]._end(ProtocolViolation("a frame of 16 MB"))
        await one.until()
        await sleep(50.0)
        assert one.peers.links == {} and one.dialled == [] and len(two.dialled) > 2
        await one.until(two)
        assert 60.0 <= trio.current_time() - begin < 190.0
    said = capsys.readouterr().out
    assert said.count("broke the protocol and is shut out ") + said.count("broke the protocol and is shut out\n") >= 1
    assert said.count("a peer's link is refused") < len(two.dialled) + 2 and "a frame of 16 MB" in said


async def test_a_breach_of_gossip_ends_the_link_at_once(autojump_clock: MockClock) -> None:
    async with few() as where:
        one, two = await where.add("one"), await where.add("two", peers=("one:6375",))
        await one.until(two)
        one.peers.breached(two.id, "an advert that is none")
        assert one.peers.links == {}
        await two.until()
        one.peers.breached(two.id, "the rest of the same batch")
        assert one.peers._overlay.shut_out(two.id, trio.current_time()) == pytest.approx(60.0, abs=1.0)


async def test_a_link_is_dropped_at_once_and_barred_peers_get_none(autojump_clock: MockClock) -> None:
    async with few() as where:
        one, two = await where.add("one"), await where.add("two", peers=("one:6375",))
        await one.until(two)
        await two.until(one)
        one.barred[two.id] = "it is revoked"
        one.peers.forget(two.id)
        assert one.peers.drop(two.id, "it is revoked") and one.peers.links == {}
        assert not one.peers.drop(two.id, "it is revoked")
        await two.until()
        await sleep(300.0)
        assert one.peers.links == {} and one.dialled == []
        # Whoever is refused tries more and more rarely.
        assert len(two.dialled) < 40
        one.barred.clear()
        await one.until(two)


async def test_a_dialled_peer_that_is_not_welcome_gets_no_link(autojump_clock: MockClock) -> None:
    async with few() as where:
        two = await where.add("two")
        one = await where.add("one")
        one.barred[two.id] = "it is revoked"
        one.know(two)
        await sleep(100.0)
        assert one.links == [] and 2 < len(one.dialled) < 40


async def test_in_a_mesh_without_certificates_one_network_brings_sixteen_members(autojump_clock: MockClock) -> None:
    async with few() as where:
        open_house = await where.add("open", trust="psk-tofu")
        guest = await where.add("guest")
        others = {node_id(f"n{number}"): f"192.168.1.{number + 1}" for number in range(16)}
        for peer, host in others.items():
            open_house.peers._lives[peer] = SimpleNamespace(host=host)  # type: ignore[assignment]
        found = await guest._connect(("open:6375",), open_house.id)
        crowd = replace(found, peer=guest.id, remote_host="192.168.1.99")
        assert "192.168.1.99" in (open_house.peers._unwelcome(crowd) or "")
        assert open_house.peers._unwelcome(replace(crowd, remote_host="192.168.2.99")) is None
        open_house.peers._lives.clear()


async def test_a_node_that_only_dials_out_is_linked_like_any_other(autojump_clock: MockClock) -> None:
    async with few() as where:
        one, two = await where.add("one"), await where.add("two", listens=False)
        one.know(two)
        two.know(one)
        await one.until(two)
        link = one.peers.link(two.id)
        assert link is not None and not link.initiator
        assert await read_all(await link.request(ask(), b"served")) == b"served"


async def test_a_hint_leads_to_a_link_and_a_false_one_to_nothing(autojump_clock: MockClock) -> None:
    async with few() as where:
        one, two = await where.add("one"), await where.add("two")
        one.peers.heard("nobody:6375")
        one.peers.heard("two:6375")
        await one.until(two)
        await sleep(500.0)
        assert one.dialled.count(("nobody:6375",)) == 3


async def test_a_hint_that_leads_to_a_peer_cuts_no_link(autojump_clock: MockClock) -> None:
    """Anybody on the LAN can pass connections on to a peer, and say so."""
    async with few() as where:
        one, two = await where.add("one"), await where.add("two", peers=("one:6375",))
        await one.until(two)
        old = one.peers.link(two.id)
        assert old is not None
        stream = await old.request(ask(), end=False)
        await sleep(CROSSED_S + 1.0)
        where.net._listeners["spoofer"] = where.net._listeners["two"]
        one.peers.heard("spoofer:6375")
        await sleep(60.0)
        assert ("spoofer:6375",) in one.dialled
        assert one.peers.link(two.id) is old and len(one.links) == len(two.links) == 1
        await stream.send(b"still")
        await stream.finish()
        assert await read_all(stream) == b"still"


async def test_nobody_is_shut_out_for_what_somebody_on_the_way_did(autojump_clock: MockClock) -> None:
    async with few() as where:
        one, two = await where.add("one"), await where.add("two", peers=("one:6375",))
        await one.until(two)
        one.links[-1]._end(Tampered("a record is forged, damaged, replayed or out of order"))
        await one.until()
        assert one.peers._overlay.shut_out(two.id, trio.current_time()) is None
        with trio.fail_after(5.0):
            await one.until(two)


async def test_a_node_that_has_moved_tries_everybody_anew(autojump_clock: MockClock) -> None:
    async with few() as where:
        one, two = await where.add("one"), await where.add("two", listens=False, peers=("one:6375",))
        where.net.partition({"one"}, {"two"})
        await sleep(200.0)
        while "one:6375" in two.peers._overlay._dialling.flights:  # noqa: ASYNC110 - nobody is told of it
            # A dial that is under way into the void has to end first.
            await sleep(0.1)
        where.net._sides = []
        before = len(two.dialled)
        two.peers.redial("wlan0 has another address")
        with trio.fail_after(1.0):
            await one.until(two)
        assert len(two.dialled) == before + 1


async def test_a_switch_that_restarts_is_no_storm(autojump_clock: MockClock) -> None:
    async with few() as where:
        nodes = [await where.add(f"n{number}", full_mesh_nodes=50, dials=4) for number in range(12)]
        for node in nodes:
            node.know(*(other for other in nodes if other is not node))
        for node in nodes:
            await node.until(*(other for other in nodes if other is not node))
        await sleep(60.0)
        before = [len(node.dialled) for node in nodes]
        for node in nodes:
            for link in node.links:
                link._end(LinkClosed("the switch restarted"))
        for node in nodes:
            await node.until(*(other for other in nodes if other is not node))
        await sleep(30.0)
        for node, count in zip(nodes, before, strict=True):
            assert len(node.peers.links) == 11
            assert len(node.dialled) - count <= 2 * 11


async def test_two_sides_that_have_forgotten_each_other_find_each_other_when_the_network_heals(
    autojump_clock: MockClock,
) -> None:
    async with few() as where:
        one, two = await where.add("one"), await where.add("two")
        one.know(two)
        two.know(one)
        await one.until(two)
        await two.until(one)
        where.net.partition({"one"}, {"two"})
        await one.until()
        await two.until()
        one.know()
        two.know()
        before = len(one.dialled)
        await sleep(4 * 3600.0)
        assert len(one.dialled) - before < 100
        await where.net.heal()
        with trio.fail_after(700.0):
            await one.until(two)


async def test_a_link_too_many_ends_when_its_streams_have_or_after_half_a_minute(autojump_clock: MockClock) -> None:
    async with few() as where:
        one, two = await where.add("one", active_links=0), await where.add("two", peers=("one:6375",))
        one.peers.standing_streams = 0
        await one.until(two)
        await two.until(one)
        link, far = one.peers.link(two.id), two.peers.link(one.id)
        assert link is not None and far is not None
        stream = await far.request(ask(), end=False)
        await sleep(1.0)
        one.peers._perform(Shed(two.id, 30.0), where.nursery)
        await sleep(10.0)
        assert link.reason is None and link.draining and far.draining
        await stream.send(b"the rest")
        await stream.finish()
        assert await read_all(stream) == b"the rest"
        await sleep(1.0)
        assert link.reason is not None and far.reason is not None


async def test_a_stream_that_does_not_end_holds_a_link_too_many_for_half_a_minute(autojump_clock: MockClock) -> None:
    async with few() as where:
        one, two = await where.add("one"), await where.add("two", peers=("one:6375",))
        one.peers.standing_streams = 0
        await one.until(two)
        await two.until(one)
        link, far = one.peers.link(two.id), two.peers.link(one.id)
        assert link is not None and far is not None
        await far.request(ask(), end=False)
        await sleep(1.0)
        one.peers._perform(Shed(two.id, 30.0), where.nursery)
        await sleep(29.0)
        assert link.reason is None
        await sleep(2.0)
        assert link.reason is not None


async def test_in_a_large_mesh_a_node_is_asked_what_its_links_are_like_and_keeps_those_in_use(
    autojump_clock: MockClock,
) -> None:
    async with few() as where:
        small = {"full_mesh_nodes": 2, "active_links": 2, "chosen_links": 1, "accepted_links": 1}
        nodes = [await where.add(f"n{number}", **small) for number in range(8)]
        for node in nodes:
            node.peers.standing_streams = 0
            node.know(*(other for other in nodes if other is not node))
        await sleep(120.0)
        assert all(node.peers.links for node in nodes)
        assert all(len(node.dialled) < 30 for node in nodes)
        busy = nodes[0]
        peer = next(iter(busy.peers.links))
        link = busy.peers.link(peer)
        assert link is not None
        await link.request(ask(), end=False)
        await sleep(300.0)
        assert busy.peers.link(peer) is link


async def test_what_changed_and_what_is_asked_often_reach_the_overlay(autojump_clock: MockClock) -> None:
    async with few() as where:
        one = await where.add("one", full_mesh_nodes=0, active_links=0)
        two, three = await where.add("two"), await where.add("three")
        one.peers.changed({two.id: two.advert(), three.id: three.advert()})
        await sleep(100.0)
        assert one.peers.links == {}
        for _ in range(10):
            one.peers.requested(two.id)
        await one.until(two)
        assert three.id not in one.peers.links
