"""Invites as their maker sees them: what may be promised, one grant for each, and what is left when that fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshnode.config import load
from meshnode.errors import CertificateRefused, InviteRefused, LinkError, PeerFailed, SecretFileError
from meshnode.identity import Invite, JoinGrant, JoinRequest, NodeKey, Revocation, Role
from meshnode.identity.certificates import read_membership
from meshnode.identity.invites import MAX_ATTEMPTS, MAX_LIFETIME_S
from meshnode.identity.join import accept_grant
from meshnode.keep.home import Home
from meshnode.mesh import exchange
from meshnode.mesh.founding import own_membership
from meshnode.mesh.inviter import Inviter, Wish
from meshnode.mesh.papers import Papers
from meshnode.model.ids import NodeId
from meshnode.net import Link, LinkStream
from tests.net.kit import ALICE, linked

PATH = "/meshnode/join"
WHERE = ("studio:6375",)


class Studio:
    """The root's holder, and its book of invites; `book` is what is on disk."""

    def __init__(self, folder: Path, trust: str = "ca") -> None:
        config = load(flags={"node": {"name": "studio"}, "mesh": {"trust": trust}})
        self.home = Home(folder / "studio", time.time)
        self.key = self.home.node_key()
        self.reachable = WHERE
        self.papers = Papers(self.home, self.key, config, own_membership(self.home, self.key, config), trio.Lock())
        self.inviter = Inviter(self.home, self.papers, lambda: self.reachable)

    @property
    def book(self) -> list[Any]:
        return list(self.home.invites().records())

    def hint(self, wish: Wish | None = None) -> bytes:
        """Of a new invite."""
        return Invite.parse(self.inviter.invite(wish or Wish(600)).token, int(time.time())).hint

    async def ask(self, hint: bytes, body: bytes | None = None, joiner: NodeId = ALICE) -> JoinGrant:
        """What a joiner gets who came with an invite. Raises PeerFailed in the words of the inviter."""
        request = JoinRequest(joiner, "laptop").pack() if body is None else body

        async def serve(link: Link, stream: LinkStream) -> None:
            link.hint, link.peer = hint, joiner
            await stream.head()
            await self.inviter.welcome(link, stream)

        outcome: list[JoinGrant | Exception] = []
        async with linked(serve) as pair:
            try:
                outcome.append(JoinGrant.unpack(await exchange.ask(pair.dialer, PATH, request, timeout_s=5.0)))
            except (PeerFailed, LinkError) as error:
                outcome.append(error)
        (found,) = outcome
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture(autouse=True)
def threads_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a thread writes, the virtual clock would run away."""

    async def at_once(work: Callable[..., Any], *args: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr("trio.to_thread.run_sync", at_once)


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


async def test_a_grant_is_what_the_invite_said_and_nothing_that_the_joiner_says(
    studio: Studio, autojump_clock: MockClock
) -> None:
    hint = studio.hint(Wish(600, roles=("client", "serve"), owner="ann"))
    grant = await studio.ask(hint)
    mesh, chain = accept_grant(grant, studio.papers.mesh.id, ALICE, int(time.time()))
    own = read_membership(chain[0])
    assert mesh == studio.papers.mesh and grant.addresses == WHERE and grant.root_seed is None
    assert (set(own.roles), own.owner) == ({Role.CLIENT, Role.SERVE}, "ann")
    (kept,) = studio.book
    assert kept.used and kept.used_by == "laptop"


async def test_an_invite_is_used_by_one_of_however_many_come_at_once(studio: Studio, autojump_clock: MockClock) -> None:
    hint, got, told = studio.hint(), [], []

    async def come() -> None:
        try:
            got.append(await studio.ask(hint))
        except PeerFailed as error:
            told.append(str(error))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(come)
    assert len(got) == 1 and len(told) == 2
    assert all("used" in words and "laptop" in words for words in told)


@pytest.mark.parametrize(
    ("body", "why"), [(b"\xa0", "does not fit"), (b"x" * 10_000, "more than"), (b"", "CBOR")]
)  # fmt: skip
async def test_nonsense_is_refused_in_words_and_uses_up_an_attempt_and_not_the_invite(
    studio: Studio, autojump_clock: MockClock, body: bytes, why: str
) -> None:
    hint = studio.hint()
    for _ in range(MAX_ATTEMPTS - 1):
        with pytest.raises(PeerFailed, match=why):
            await studio.ask(hint, body)
    assert await studio.ask(hint)


async def test_who_comes_a_fourth_time_gets_nothing(studio: Studio, autojump_clock: MockClock) -> None:
    hint = studio.hint()
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(PeerFailed):
            await studio.ask(hint, b"\xa0")
    with pytest.raises(PeerFailed, match="was tried 3 times"):
        await studio.ask(hint)
    assert not studio.book[0].used


async def test_who_asks_for_another_than_itself_gets_nothing_and_is_not_pinned(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    studio = Studio(tmp_path, trust="pinned")
    hint = studio.hint()
    with pytest.raises(PeerFailed, match="another node than the handshake"):
        await studio.ask(hint, JoinRequest(NodeId(b"z" * 32), "laptop").pack())
    assert not studio.papers.trust.pins.holds(ALICE)
    # Used up all the same: who had the line has shown what it is worth.
    assert studio.book[0].used


async def test_who_is_let_in_is_pinned_where_pins_decide_and_that_is_on_disk(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    studio = Studio(tmp_path, trust="pinned")
    await studio.ask(studio.hint())
    assert bytes(ALICE) in studio.home.pins().pinned


async def test_a_joiner_hears_of_who_is_out(studio: Studio, autojump_clock: MockClock) -> None:
    out = NodeKey.generate().id
    now = int(time.time())
    studio.papers.take(studio.papers.issuer().notice(Revocation(studio.papers.mesh.id, bytes(out), now)))
    (notice,) = (await studio.ask(studio.hint())).notices
    assert isinstance(notice.statement, Revocation) and notice.statement.node == bytes(out)


async def test_the_root_goes_with_an_invite_that_promised_it_alone(studio: Studio, autojump_clock: MockClock) -> None:
    assert (await studio.ask(studio.hint(Wish(600, root=True)))).root_seed == studio.papers.membership.root_seed


# Disks that take nothing.


def full(*_: object) -> None:
    raise SecretFileError("cannot write: no space left")


async def test_an_invite_that_cannot_be_kept_is_none(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Home, "save_invites", full)
        for _ in range(3):
            with pytest.raises(SecretFileError, match="no space"):
                studio.inviter.invite(Wish(600))
    assert studio.inviter.book.records() == ()


@pytest.mark.parametrize("what", ["save_invites", "save_pins"])
async def test_nothing_is_granted_that_could_not_be_kept_and_the_joiner_is_told(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    studio = Studio(tmp_path, trust="pinned")
    hint = studio.hint()
    monkeypatch.setattr(Home, what, full)
    with pytest.raises(PeerFailed, match="no space"):
        await studio.ask(hint)


async def test_an_invite_is_burnt_on_disk_before_anything_is_granted(
    studio: Studio, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that dies in between has lost an invite, and has no second member."""
    hint, seen = studio.hint(), []
    issue = type(studio.papers.issuer()).issue

    def watched(*args: Any, **more: Any) -> Any:
        seen.append(studio.book[0].used)
        return issue(*args, **more)

    monkeypatch.setattr(type(studio.papers.issuer()), "issue", watched)
    await studio.ask(hint)
    assert seen == [True]


# Promises.


@pytest.mark.parametrize(
    ("wish", "error", "why"),
    [
        (Wish(600, roles=("king",)), InviteRefused, "there are client, invite, relay, serve"),
        (Wish(600, owner="a" * 65), InviteRefused, "one line of 64"),
        (Wish(600, owner="ann\x1b[31m"), InviteRefused, "one line"),
        (Wish(600, owner=" ann"), InviteRefused, "space at its ends"),
    ],
)
async def test_what_is_no_role_and_no_owner_is_not_promised(
    studio: Studio, wish: Wish, error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        studio.inviter.invite(wish)
    assert studio.book == []


async def test_whom_nobody_can_dial_invites_nobody(studio: Studio) -> None:
    studio.reachable = ()
    with pytest.raises(InviteRefused, match="invite from another node"):
        studio.inviter.invite(Wish(600))


async def test_who_is_out_of_the_mesh_promises_nothing_and_gives_nothing(
    studio: Studio, autojump_clock: MockClock
) -> None:
    hint = studio.hint()
    now = int(time.time())
    studio.papers.take(studio.papers.issuer().notice(Revocation(studio.papers.mesh.id, bytes(studio.key.id), now)))
    with pytest.raises(CertificateRefused, match="out of the mesh"):
        studio.inviter.invite(Wish(600))
    with pytest.raises(PeerFailed, match="out of the mesh"):
        await studio.ask(hint)
    assert not studio.book[0].used


@pytest.mark.parametrize(("asked_s", "gets_s"), [(-5, 1), (0, 1), (90, 90), (10**9, MAX_LIFETIME_S)])
async def test_an_invite_is_good_for_a_second_to_a_day(studio: Studio, asked_s: int, gets_s: int) -> None:
    made = studio.inviter.invite(Wish(asked_s))
    assert made.expires_s == gets_s
    now = int(time.time())
    assert 0 <= Invite.parse(made.token, now).expires - now <= gets_s
