"""Which mesh a node is in at its start: a private one founded once, the one it is in, or the one that its secret is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from meshnode.config import Config, load
from meshnode.errors import ConfigError, IdentityError, SecretFileError
from meshnode.identity import NodeKey, Role
from meshnode.identity.certificates import read_membership
from meshnode.identity.credential import check_chain
from meshnode.keep.home import Home, Membership
from meshnode.mesh.addresses import MOST
from meshnode.mesh.founding import check, found_anew, own_membership

TOFU = {"mesh": {"trust": "psk-tofu"}}


def config(owner: str = "", **mesh: Any) -> Config:
    return load(flags={"node": {"name": "x", "owner": owner}, "mesh": mesh})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", time.time)


def lived(home: Home, settings: Config | None = None) -> Membership:
    """What a start makes of a home: the same that the next one reads."""
    found = own_membership(home, home.node_key(), settings or config())
    assert home.membership(home.node_key()) == found
    return found


def of(found: Membership, key: NodeKey) -> Any:
    """This node's certificate, which is good now."""
    check_chain(found.chain, key.id, found.mesh.id, int(time.time()))
    return read_membership(found.chain[0])


def test_the_first_start_founds_a_mesh_of_ones_own_and_the_next_one_is_in_it(home: Home) -> None:
    first = lived(home, config("ann"))
    own = of(first, home.node_key())
    assert first.root_seed is not None and own.owner == "ann" and set(own.roles) == set(Role)
    assert lived(home, config("ann")) == first


def test_who_holds_the_root_says_itself_whose_machine_it_is(home: Home) -> None:
    first = lived(home, config("ann"))
    again = lived(home, config("bob"))
    assert (again.mesh, again.root_seed) == (first.mesh, first.root_seed)
    before, now = of(first, home.node_key()), of(again, home.node_key())
    assert (now.owner, now.roles) == ("bob", before.roles) and now.serial != before.serial
    # No owner in the configuration takes nobody's away.
    assert lived(home, config()) == again


def test_whose_machine_anybody_elses_is_says_who_let_it_in(home: Home, tmp_path: Path) -> None:
    key, root = home.node_key(), Home(tmp_path / "root", time.time)
    founded = lived(root)
    chain = founded.issuer(root.node_key()).issue(key.id, int(time.time()), 7, roles=[Role.CLIENT], owner="ann")
    joined = Membership(founded.mesh, chain)
    home.save_membership(joined)
    assert lived(home, config("bob")) == joined


def test_a_secret_that_was_copied_is_the_mesh_and_touches_no_other(home: Home, tmp_path: Path) -> None:
    private, other = lived(home), Home(tmp_path / "other", time.time)
    with pytest.raises(IdentityError, match="`meshnode mesh secret` makes one"):
        own_membership(home, home.node_key(), load(flags=TOFU))
    other.save_tofu_secret(home.make_tofu_secret())
    one, two = (own_membership(at, at.node_key(), load(flags=TOFU)) for at in (home, other))
    assert one == two and one.mesh.id != private.mesh.id and one.chain == ()
    assert lived(home) == private
    assert other.membership(other.node_key()) is None


def test_founding_anew_leaves_one_mesh_for_another_and_never_none(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lived(home, config("ann"))
    after = found_anew(home, home.node_key(), config("ann"))
    assert after.mesh.id != before.mesh.id and after.root_seed not in (None, before.root_seed)
    assert lived(home, config("ann")) == after

    def full(*_: object) -> None:
        raise SecretFileError("no space left")

    # A machine that dies in between is in a mesh of its own after its next start.
    with monkeypatch.context() as patch:
        patch.setattr(Home, "found_mesh", full)
        with pytest.raises(SecretFileError):
            found_anew(home, home.node_key(), config())
    assert home.membership(home.node_key()) is None
    assert lived(home).mesh.id not in (before.mesh.id, after.mesh.id)


def test_every_fault_is_told_at_once() -> None:
    wrong = config(
        " ann", peers=("studio:6375", "studio", ":6375", "studio:0"), pinned=("nobody",),
        advertise=("10.0.0.1:6375", "0.0.0.0:6375", "[::]:6375", "studio"),
    )  # fmt: skip
    with pytest.raises(ConfigError) as found:
        check(wrong)
    assert [fault.partition(":")[0] for fault in found.value.faults] == [
        *["mesh.peers"] * 3, *["mesh.advertise"] * 3, "node.owner", "mesh.pinned",
    ]  # fmt: skip
    for named in ("'studio'", "':6375'", "'studio:0'", "0.0.0.0:6375", "[::]:6375", "one line"):
        assert named in str(found.value)


@pytest.mark.parametrize("address", ["studio:6375", "10.0.0.1:6375", "[fd00::1]:6375"])
def test_addresses_that_can_be_dialled_are_none(address: str) -> None:
    check(config("ann", peers=(address,), advertise=(address,)))


def test_as_many_addresses_are_told_as_adverts_and_invites_hold() -> None:
    check(config(advertise=tuple(f"studio-{n}:6375" for n in range(MOST))))
    with pytest.raises(ConfigError, match=f"at most {MOST} are told"):
        check(config(advertise=tuple(f"studio-{n}:6375" for n in range(MOST + 1))))


def test_an_owner_that_no_certificate_takes_is_no_owner() -> None:
    """A mesh founded with one could not be read at the next start."""
    with pytest.raises(ConfigError, match=r"node\.owner"):
        config("a" * 65)
