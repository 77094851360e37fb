"""Notices on links: believed or not, told on, remembered; and whoever abuses the way they come is shut out."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import CertificateRefused, SecretFileError
from meshnode.identity import Issuer, MeshRoot, Notice, Revocation, Rotation
from meshnode.identity.statements import MAX_NOTICE_BYTES
from meshnode.keep.home import Home
from meshnode.mesh import notices
from meshnode.net import LinkStream
from tests.kit.world import Papers, Wall, World, WorldNode, world

HEADERS = [(":method", "POST"), (":scheme", "mesh"), (":authority", "mesh"), (":path", notices.PATH)]


async def pair(where: World) -> tuple[WorldNode, WorldNode]:
    studio = await where.add("studio", papers=Papers(root=True))
    laptop = await where.add("laptop", peers=("studio",))
    with trio.fail_after(10.0):
        await studio.until_reachable({"laptop"})
        await laptop.until_reachable({"studio"})
    return studio, laptop


async def speak(frm: WorldNode, to: WorldNode, data: bytes) -> LinkStream:
    """A second stream of notices, which says what it likes."""
    link = frm.member.link(to.id)
    assert link is not None
    stream = await link.request(HEADERS, end=False)
    await stream.send(data)
    return stream


def framed(notice: Notice) -> bytes:
    data = notice.pack()
    return len(data).to_bytes(2, "big") + data


def by_root(where: World, statement: Revocation | Rotation) -> Notice:
    return Issuer(where.root, where.mesh.id).notice(statement)


async def test_frames_in_any_pieces_are_read(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        studio, laptop = await pair(where)
        now = int(time.time())
        first = by_root(where, Revocation(where.mesh.id, b"a" * 32, now))
        second = by_root(where, Rotation(where.mesh.id, 4, b"s" * 32, now))
        data = framed(first) + framed(second)
        stream = await speak(laptop, studio, data[:1])
        for index in range(1, len(data)):
            await stream.send(data[index : index + 1])
        await trio.sleep(1.0)
        assert studio.member.membership.mesh.generation == 4
        assert b"a" * 32 in studio.member._papers.notices.revoked()


@pytest.mark.parametrize(
    "data",
    [(MAX_NOTICE_BYTES + 1).to_bytes(2, "big"), b"\x00\x03abc", b"\x00\x00"],
    ids=["too long", "no notice", "empty"],
)
async def test_what_is_no_notice_shuts_its_sender_out_for_a_time(
    tmp_path: Path, autojump_clock: MockClock, data: bytes
) -> None:
    async with world(tmp_path) as where:
        studio, laptop = await pair(where)
        await speak(laptop, studio, data)
        await trio.sleep(5.0)
        assert not studio.member.view().links
        with trio.fail_after(300.0):
            await studio.until_linked(laptop)


async def test_what_is_not_believed_changes_nothing_and_cuts_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        studio, laptop = await pair(where)
        mesh, now, foreign = where.mesh.id, int(time.time()), MeshRoot.generate()
        ahead = by_root(where, Revocation(mesh, bytes(studio.id), now + 3600))
        other_mesh = Issuer(foreign, foreign.mesh).notice(Revocation(foreign.mesh, bytes(studio.id), now))
        good = by_root(where, Revocation(mesh, bytes(studio.id), now))
        forged = Notice(good.body, bytes(64), ())
        await speak(laptop, studio, b"".join(map(framed, (ahead, other_mesh, forged))))
        await trio.sleep(5.0)
        assert not studio.member._papers.notices.all()
        assert set(studio.member.view().links) == {laptop.id}


async def test_many_that_are_not_believed_are_heard_slowly(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "REFUSALS", 10)
    async with world(tmp_path) as where:
        studio, laptop = await pair(where)
        now = int(time.time())
        junk = [
            Notice(by_root(where, Revocation(where.mesh.id, bytes([n]) * 32, now)).body, bytes(64), ())
            for n in range(30)
        ]
        good = by_root(where, Rotation(where.mesh.id, 2, b"s" * 32, now))
        await speak(laptop, studio, b"".join(map(framed, (*junk, good))))
        await trio.sleep(19 * notices.PAUSE_S)
        assert studio.member.membership.mesh.generation == 0
        await trio.sleep(5.0)
        assert studio.member.membership.mesh.generation == 2


async def test_a_notice_is_told_once_on_each_link_and_not_back(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    take = notices._take

    def count(buffer: bytearray) -> bytes | None:
        frame = take(buffer)
        told.extend([1] if frame is not None else [])
        return frame

    monkeypatch.setattr(notices, "_take", count)
    async with world(tmp_path) as where:
        studio, laptop = await pair(where)
        await studio.member.rotate()
        await trio.sleep(60.0)
        assert laptop.member.membership.mesh.generation == 1
        assert len(told) == 1


async def test_what_was_heard_outlives_a_restart(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        studio, laptop = await pair(where)
        stranger = type(studio.id)(b"x" * 32)
        await studio.member.revoke(stranger)
        await trio.sleep(10.0)
        before = laptop.member.membership.mesh
        await where.kill("laptop")
        alone = await where.add("laptop")
        assert alone.member.membership.mesh == before and before.generation == 1
        assert stranger in alone.member._papers.notices.revoked()


async def test_a_crash_between_two_files_loses_no_secret(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        studio = await where.add("studio", papers=Papers(root=True))
        old = studio.home.membership(studio.home.node_key())
        assert old is not None
        await studio.member.rotate()
        secret = studio.member.membership.mesh.secret
        await where.kill("studio")
        studio.home.save_membership(old)
        again = await where.add("studio")
        assert again.member.membership.mesh.secret == secret


async def test_a_crash_between_two_files_brings_no_secret_of_a_revoked_node_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Its number is higher than all that come after: the node would keep it, and lose the mesh a day later."""
    async with world(tmp_path) as where:
        studio, laptop = await pair(where)
        now = int(time.time())
        chain = laptop.member.membership.chain
        laptop.member.mesh.post(
            Issuer(laptop.home.node_key(), where.mesh.id, chain).notice(Rotation(where.mesh.id, now, b"x" * 32, now))
        )
        await trio.sleep(5.0)
        before = studio.home.membership(studio.home.node_key())
        assert before is not None and before.mesh.secret == b"x" * 32
        await studio.member.revoke(laptop.id)
        secret = studio.member.membership.mesh.secret
        await where.kill("studio")
        studio.home.save_membership(before)
        again = await where.add("studio")
        assert again.member.membership.mesh.secret == secret


async def test_a_full_disk_stops_no_revocation_and_is_tried_again(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as where:
        studio, laptop = await pair(where)
        save = Home.save_notices

        def full(*_: object) -> None:
            raise SecretFileError("cannot write: no space")

        monkeypatch.setattr(Home, "save_notices", full)
        with pytest.raises(SecretFileError, match="no space"):
            await studio.member.revoke(laptop.id)
        with trio.fail_after(1.0):
            await studio.until_linked()
        await trio.sleep(90.0)
        monkeypatch.setattr(Home, "save_notices", save)
        await trio.sleep(90.0)
        assert len(studio.home.notices(where.mesh.id)) == 2


async def test_old_revocations_are_forgotten_in_time(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = Wall(monkeypatch)
    async with world(tmp_path) as where:
        studio = await where.add("studio", papers=Papers(root=True))
        await studio.member.revoke(type(studio.id)(b"x" * 32))
        wall.skip(91 * 86_400)
        await studio.member.rotate()
        assert not studio.member._papers.notices.revoked()


async def test_what_is_no_news_takes_no_memory(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too old to be of interest is told before anything is verified: anybody can make as many as it likes."""
    monkeypatch.setattr(notices, "REFUSALS", 10)
    monkeypatch.setattr(notices, "MOST_TOLD", 40)
    async with world(tmp_path) as where:
        studio, laptop = await pair(where)
        junk = [
            Notice(by_root(where, Revocation(where.mesh.id, bytes([n]) * 32, n)).body, bytes(64)) for n in range(99)
        ]
        for each in range(0, 99, 33):
            await speak(laptop, studio, b"".join(map(framed, junk[each : each + 33])))
        began = trio.current_time()
        conversation = studio.member.mesh._board._conversations[studio.member.link(laptop.id)]
        while conversation.idle < 99:
            assert len(conversation.told) <= 40
            await trio.sleep(notices.PAUSE_S / 2)
        assert trio.current_time() - began >= 80 * notices.PAUSE_S


async def test_what_a_wrong_clock_refused_is_told_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        where_settings = {"mesh": {"rekey_s": 600.0}}
        studio = await where.add("studio", papers=Papers(root=True), settings=where_settings)
        laptop = await where.add("laptop", peers=("studio",), settings=where_settings)
        with trio.fail_after(10.0):
            await laptop.until_linked(studio)
        take = laptop.member._papers.take

        def ahead(notice: Notice) -> None:
            raise CertificateRefused("the notice is dated 400 s ahead")

        laptop.member._papers.take = ahead  # type: ignore[method-assign, assignment]
        await studio.member.rotate()
        await trio.sleep(60.0)
        laptop.member._papers.take = take  # type: ignore[method-assign]
        link = laptop.member.link(studio.id)
        await trio.sleep(1200.0)
        assert laptop.member.link(studio.id) is link
        assert laptop.member.membership.mesh.generation == 1
