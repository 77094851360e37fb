"""What a node is told over its control routes: who is meant, what the member is asked, what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from meshnode.commands import Commands
from meshnode.errors import BadRequest, IdentityError
from meshnode.front import Keyring
from meshnode.identity import Pins
from meshnode.identity.invites import MAX_LIFETIME_S
from meshnode.mesh.dial_back import DialledBack
from meshnode.mesh.inviter import Invitation, Wish
from meshnode.mesh.warden import Revoked
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.model.view import View

ME, ATTIC, GONE, OTHER = (NodeId(bytes([number]) * 32) for number in (1, 2, 3, 4))


@dataclass
class FakeMember:
    """Does what it is told, and remembers it."""

    told: list[tuple[Any, ...]] = field(default_factory=list)
    trust_mode: str = "ca"
    membership: Any = field(default_factory=lambda: SimpleNamespace(mesh=SimpleNamespace(name="home")))
    refusal: Exception | None = None

    def view(self) -> View:
        adverts = {
            node: Advert(bytes(node), bytes(32), 1, 1, 60, name=name)
            for node, name in ((ME, "studio"), (ATTIC, "attic"))
        }
        return View(ME, adverts, {ATTIC: 0.001})

    def invite(self, wish: Wish) -> Invitation:
        self._tell("invite", wish)
        return Invitation("mesh1-x", wish.lifetime_s, wish.roles or ("client",), wish.owner, wish.root)

    async def join(self, token: str) -> list[str]:
        self._tell("join", token)
        return ["attic"]

    async def leave_mesh(self, *, force: bool = False) -> str:
        self._tell("leave", force)
        return "office"

    async def rotate(self) -> int:
        return 3

    async def revoke(self, node: NodeId, *, keep_invited: bool = False) -> Revoked:
        self._tell("revoke", node, keep_invited)
        return Revoked(node, "attic", ("cellar",), True, 4, False)

    async def trust_node(self, node: NodeId, name: str = "") -> bool:
        self._tell("trust", node, name)
        return True

    async def forget(self, node: NodeId) -> bool:
        self._tell("forget", node)
        return False

    async def dial_back(self) -> list[DialledBack]:
        return [DialledBack("attic", "10.0.0.5:6375", True, "", 0.5)]

    def _tell(self, *what: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.told.append(what)


@pytest.fixture
def member() -> FakeMember:
    return FakeMember()


@pytest.fixture
def commands(member: FakeMember) -> Commands:
    pins = Pins(pinned=(bytes(OTHER),), names=(("loft", bytes(GONE)),))
    return Commands(cast(Any, SimpleNamespace(member=member, home=SimpleNamespace(pins=lambda: pins))), Keyring())


async def test_an_invite_is_wished_for_and_described(commands: Commands, member: FakeMember) -> None:
    made = await commands.invite(60.7, ("serve",), "ann", True)
    assert member.told == [("invite", Wish(60, ("serve",), "ann", True))]
    assert made == {"token": "mesh1-x", "expires_s": 60, "roles": ["serve"], "owner": "ann", "root": True}


@pytest.mark.parametrize(("asked_s", "given_s"), [(None, MAX_LIFETIME_S), (1e9, MAX_LIFETIME_S), (0.01, 1)])
async def test_an_invite_lives_between_a_second_and_a_day(
    commands: Commands, member: FakeMember, asked_s: float | None, given_s: int
) -> None:
    assert (await commands.invite(asked_s, None, "", False))["expires_s"] == given_s
    assert member.told[0][1].roles is None


@pytest.mark.parametrize("text", ["attic", ATTIC.short, ATTIC.text])
async def test_a_node_is_revoked_by_any_of_its_names(commands: Commands, member: FakeMember, text: str) -> None:
    done = await commands.revoke(text, True)
    assert member.told == [("revoke", ATTIC, True)]
    assert done == {
        "node": ATTIC.text, "short": ATTIC.short, "name": "attic", "also": ["cellar"], "dropped": True, "generation": 4,
        "local_only": False,
    }  # fmt: skip


@pytest.mark.parametrize(("text", "node"), [("loft", GONE), ("Loft", GONE), (GONE.short, GONE), (OTHER.short, OTHER)])
async def test_what_is_pinned_can_be_forgotten_though_nobody_hears_of_it(
    commands: Commands, member: FakeMember, text: str, node: NodeId
) -> None:
    done = await commands.forget(text)
    assert member.told == [("forget", node)]
    assert (done["node"], done["changed"]) == (node.text, False)


@pytest.mark.parametrize("text", ["studio", ME.text, ME.short])
async def test_a_node_does_nothing_of_the_kind_to_itself(commands: Commands, member: FakeMember, text: str) -> None:
    for deed in (commands.revoke(text, False), commands.trust(text, ""), commands.forget(text)):
        with pytest.raises(BadRequest, match="meshnode leave"):
            await deed
    assert member.told == []


async def test_a_name_that_means_nobody_reaches_no_member(commands: Commands, member: FakeMember) -> None:
    with pytest.raises(BadRequest, match="close to it: attic"):
        await commands.revoke("atic", False)
    assert member.told == []


async def test_trusting_says_in_which_mode_and_under_which_name(commands: Commands, member: FakeMember) -> None:
    done = await commands.trust(ATTIC.text, "top floor")
    assert member.told == [("trust", ATTIC, "top floor")]
    assert (done["name"], done["changed"], done["trust"]) == ("top floor", True, "ca")


async def test_joining_leaving_and_rotating_say_where_this_node_is_then(commands: Commands) -> None:
    assert await commands.join("mesh1-x") == {"mesh": "home", "nodes": ["attic"]}
    assert await commands.leave(True) == {"left": "office", "mesh": "home"}
    assert await commands.rotate() == {"mesh": "home", "generation": 3}


async def test_a_refusal_of_the_member_passes_through(commands: Commands, member: FakeMember) -> None:
    member.refusal = IdentityError("this node holds the root")
    with pytest.raises(IdentityError, match="root"):
        await commands.leave(False)


async def test_the_doctor_is_told_what_peers_found(commands: Commands) -> None:
    found = {"peer": "attic", "address": "10.0.0.5:6375", "ok": True, "detail": "", "clock_skew_s": 0.5}
    assert await commands.doctor() == {"peers": 1, "dialled_back": [found]}
