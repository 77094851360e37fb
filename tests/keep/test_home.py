from __future__ import annotations

import stat
from pathlib import Path

import platformdirs
import pytest

from meshnode.errors import IdentityError, SecretFileError, StartError
from meshnode.identity import (
    Invite,
    Issuer,
    MeshRoot,
    NodeKey,
    Notice,
    Pins,
    Revocation,
    check_chain,
    new_tofu_secret,
)
from meshnode.keep import Home, Membership, default_home, remove_secret
from meshnode.model import codec

NOW = 1_800_000_000.5
SECRET_FILES = (
    "node.key",
    "mesh.cbor",
    "invites.cbor",
    "notices.cbor",
    "pins.cbor",
    "mesh.secret",
    "control.secret",
    "incarnation",
)
OF_MESH = ("mesh.cbor", "invites.cbor", "notices.cbor", "pins.cbor")
STRANGER = NodeKey.from_seed(b"s" * 32)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", lambda: NOW)


def furnish(home: Home) -> NodeKey:
    """Every file there can be."""
    key = home.node_key()
    founded = home.found_mesh(key, "home")
    book = home.invites()
    book.issue(int(NOW), b"sixteen bytes :)", mesh=founded.mesh.id, signer=key.id, addresses=(), lifetime_s=60)
    home.save_invites(book)
    home.save_notices(founded.mesh.id, revocation(founded, key))
    home.save_pins(Pins((STRANGER.public,), (("box", STRANGER.public),), ()))
    home.make_tofu_secret()
    home.control_secret()
    home.bump_incarnation()
    return key


def revocation(membership: Membership, key: NodeKey) -> tuple[Notice, ...]:
    """What the root of this mesh says of a stranger."""
    return (membership.issuer(key).notice(Revocation(membership.mesh.id, STRANGER.public, int(NOW))),)


def load_all(home: Home) -> None:
    founded = home.membership(home.node_key())
    home.invites()
    home.notices(founded.mesh.id if founded is not None else bytes(32))
    home.pins()
    home.tofu_secret()
    home.control_secret()
    home.bump_incarnation()


class TestPlace:
    def test_the_environment_names_it(self, tmp_path: Path) -> None:
        assert default_home({"MESHNODE_HOME": str(tmp_path)}) == tmp_path

    @pytest.mark.parametrize("environment", [{}, {"MESHNODE_HOME": ""}])
    def test_else_it_is_where_programs_keep_their_data(self, environment: dict[str, str]) -> None:
        assert default_home(environment) == platformdirs.user_data_path("meshnode", appauthor=False)

    def test_directories_are_private_and_secrets_too(self, home: Home) -> None:
        furnish(home)
        assert {stat.S_IMODE(path.stat().st_mode) for path in (home.path, home.models)} == {0o700}
        assert {stat.S_IMODE((home.path / name).stat().st_mode) for name in SECRET_FILES} == {0o600}

    def test_two_nodes_do_not_share_it(self, home: Home) -> None:
        with home, pytest.raises(StartError, match="in use"), Home(home.path):
            pass
        with Home(home.path):
            pass


class TestIdentity:
    def test_it_survives_a_restart(self, home: Home) -> None:
        assert Home(home.path).node_key().id == home.node_key().id

    def test_a_lost_key_is_not_silently_replaced(self, home: Home) -> None:
        furnish(home)
        (home.path / "node.key").unlink()
        with pytest.raises(SecretFileError, match=r"node.key is missing.*restore it"):
            home.node_key()
        assert not (home.path / "node.key").exists()

    def test_nor_is_that_of_a_node_without_certificates(self, home: Home) -> None:
        home.make_tofu_secret()
        home.node_key()
        home.bump_incarnation()
        (home.path / "node.key").unlink()
        with pytest.raises(SecretFileError, match=r"node.key is missing.*move incarnation"):
            home.node_key()
        (home.path / "incarnation").unlink()
        assert home.node_key()

    def test_every_bit_of_the_key_file_counts(self, home: Home) -> None:
        home.node_key()
        path = home.path / "node.key"
        good = path.read_bytes()
        for bit in range(len(good) * 8):
            changed = bytearray(good)
            changed[bit // 8] ^= 1 << (bit % 8)
            path.write_bytes(changed)
            with pytest.raises(SecretFileError, match=r"node\.key"):
                home.node_key()


class TestMesh:
    def test_a_node_alone_is_in_none(self, home: Home) -> None:
        assert home.membership(home.node_key()) is None

    def test_a_founded_one_survives_a_restart(self, home: Home) -> None:
        key = home.node_key()
        founded = home.found_mesh(key, "home", "alice")
        again = Home(home.path).membership(key)
        assert again == founded
        certificate, _ = check_chain(founded.chain, key.id, founded.mesh.id, int(NOW))
        assert certificate.owner == "alice"

    def test_the_founder_invites_as_the_root(self, home: Home) -> None:
        key = home.node_key()
        founded = home.found_mesh(key, "home")
        other = NodeKey.generate()
        chain = founded.issuer(key).issue(other.id, int(NOW), 1)
        assert len(chain) == 1
        check_chain(chain, other.id, founded.mesh.id, int(NOW))

    def test_a_member_invites_as_itself(self, home: Home) -> None:
        key, root = home.node_key(), MeshRoot.generate()
        mesh = home.found_mesh(key, "home").mesh
        chain = Issuer(root, root.mesh).issue(key.id, int(NOW), 1)
        joined = Membership(type(mesh)(root.mesh, "joined", bytes(32)), chain)
        home.save_membership(joined)
        assert home.membership(key) == joined
        assert len(joined.issuer(key).issue(NodeKey.generate().id, int(NOW), 1)) == 2

    def test_founding_never_replaces_one(self, home: Home) -> None:
        key = furnish(home)
        with pytest.raises(SecretFileError, match="there already"):
            home.found_mesh(key, "another")

    def test_another_nodes_is_refused(self, home: Home) -> None:
        furnish(home)
        with pytest.raises(SecretFileError, match="another node's"):
            home.membership(NodeKey.generate())

    def test_another_meshs_root_is_refused(self, home: Home) -> None:
        key = home.node_key()
        founded = home.found_mesh(key, "home")
        home.save_membership(Membership(founded.mesh, founded.chain, b"r" * 32))
        with pytest.raises(SecretFileError, match="root is another"):
            home.membership(key)

    def test_it_does_not_show_its_secrets(self, home: Home) -> None:
        founded = home.found_mesh(home.node_key(), "home")
        shown = repr(founded)
        assert repr(founded.root_seed) not in shown
        assert repr(founded.mesh.secret) not in shown


class TestInvites:
    def test_they_survive_a_restart(self, home: Home) -> None:
        key = home.node_key()
        book = home.invites()
        line, record = book.issue(
            int(NOW), b"sixteen bytes :)", mesh=bytes(32), signer=key.id, addresses=(), lifetime_s=60
        )
        home.save_invites(book)
        again = Home(home.path).invites()
        assert again.records() == (record,)
        assert again.attempt(record.hint, int(NOW)) == Invite.parse(line, int(NOW)).psks()


class TestNotices:
    def test_they_survive_a_restart(self, home: Home) -> None:
        key = home.node_key()
        founded = home.found_mesh(key, "home")
        assert home.notices(founded.mesh.id) == ()
        notices = revocation(founded, key)
        home.save_notices(founded.mesh.id, notices)
        assert Home(home.path).notices(founded.mesh.id) == notices

    def test_another_meshs_mean_nothing_here(self, home: Home) -> None:
        key = home.node_key()
        home.save_notices(bytes(32), revocation(home.found_mesh(key, "home"), key))
        assert home.notices(b"o" * 32) == ()

    def test_a_full_table_is_kept_and_read(self, home: Home) -> None:
        key = home.node_key()
        founded = home.found_mesh(key, "home")
        alice = NodeKey.from_seed(b"a" * 32)
        issuer = Issuer(alice, founded.mesh.id, founded.issuer(key).issue(alice.id, int(NOW), 1, owner="o" * 64))
        kept = tuple(bytes([n]) * 32 for n in range(16))
        one = issuer.notice(Revocation(founded.mesh.id, STRANGER.public, int(NOW), kept))
        home.save_notices(founded.mesh.id, (one,) * 1100)
        assert home.notices(founded.mesh.id) == (one,) * 1100


class TestPins:
    def test_they_survive_a_restart(self, home: Home) -> None:
        assert home.pins() == Pins()
        pins = Pins((STRANGER.public,), (("box", STRANGER.public),), (bytes(32),))
        home.save_pins(pins)
        assert Home(home.path).pins() == pins

    def test_a_full_table_is_kept_and_read(self, home: Home) -> None:
        ids = tuple(number.to_bytes(32, "big") for number in range(4096))
        pins = Pins(ids, tuple((f"{n:04}" + "\N{GRINNING FACE}" * 60, key) for n, key in enumerate(ids)), ids)
        home.save_pins(pins)
        assert home.pins() == pins


class TestLeaving:
    def test_only_what_is_this_nodes_own_stays(self, home: Home) -> None:
        key = furnish(home)
        home.addresses.write_bytes(b"")
        (home.path / ".mesh.cbor.new").write_bytes(b"half")
        home.leave_mesh()
        assert {path.name for path in home.path.iterdir()} == {
            "models", "node.key", "mesh.secret", "control.secret", "incarnation"
        }  # fmt: skip
        assert Home(home.path).node_key().id == key.id
        assert home.membership(key) is None
        assert home.found_mesh(key, "new").mesh.name == "new"

    def test_the_membership_goes_first(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        key = furnish(home)

        def fail(path: Path) -> None:
            if path.name == "invites.cbor":
                raise SecretFileError("the power went")
            remove_secret(path)

        monkeypatch.setattr("meshnode.keep.home.remove_secret", fail)
        with pytest.raises(SecretFileError, match="power"):
            home.leave_mesh()
        monkeypatch.undo()
        assert home.membership(key) is None and home.invites().records()
        home.leave_mesh()
        assert not home.invites().records()

    def test_a_home_without_a_mesh_is_left_as_it_is(self, home: Home) -> None:
        key = home.node_key()
        home.leave_mesh()
        assert home.node_key().id == key.id


class TestTofuSecret:
    def test_it_is_made_once_and_copied(self, home: Home, tmp_path: Path) -> None:
        assert home.tofu_secret() is None
        line = home.make_tofu_secret()
        assert home.tofu_secret() == line and Home(home.path).tofu_secret() == line
        other = Home(tmp_path / "other")
        other.save_tofu_secret(f"  {line[:30]}\n{line[30:]}\n")
        assert other.tofu_secret() == line

    def test_a_file_copied_by_hand_is_read(self, home: Home) -> None:
        line = new_tofu_secret(b"t" * 32)
        path = home.path / "mesh.secret"
        path.write_text(line + "\r\n")
        path.chmod(0o600)
        assert home.tofu_secret() == line

    def test_it_is_never_replaced(self, home: Home) -> None:
        line = home.make_tofu_secret()
        with pytest.raises(SecretFileError, match="there already"):
            home.make_tofu_secret()
        with pytest.raises(SecretFileError, match="there already"):
            home.save_tofu_secret(new_tofu_secret(b"t" * 32))
        home.save_tofu_secret(line)
        assert home.tofu_secret() == line

    def test_a_mistyped_one_is_not_kept(self, home: Home) -> None:
        with pytest.raises(IdentityError, match="mistyped"):
            home.save_tofu_secret(new_tofu_secret(b"t" * 32)[:-1])
        assert home.tofu_secret() is None

    def test_a_damaged_file_is_named_and_its_line_is_not_shown(self, home: Home) -> None:
        line = home.make_tofu_secret()
        for content in (line[:-1].encode(), b"", b"\xff" * 40, line.encode()[:40]):
            (home.path / "mesh.secret").write_bytes(content)
            with pytest.raises(SecretFileError, match=r"mesh\.secret: .*copy") as caught:
                home.tofu_secret()
            assert line[20:40] not in str(caught.value)


class TestIncarnation:
    def test_what_the_mesh_showed_is_counted_on_from(self, home: Home) -> None:
        first = home.bump_incarnation()
        home.keep_incarnation(first + 10**9)
        assert home.bump_incarnation() == first + 10**9 + 1

    def test_it_never_goes_back(self, home: Home) -> None:
        first = home.bump_incarnation()
        home.keep_incarnation(first - 1)
        assert home.bump_incarnation() > first

    def test_the_largest_that_adverts_hold_is_read_again(self, home: Home) -> None:
        home.keep_incarnation(2**62 - 1)
        assert home.bump_incarnation() == 2**62

    def test_it_grows_at_every_start(self, home: Home) -> None:
        found = [Home(home.path, lambda: NOW).bump_incarnation() for _ in range(4)]
        assert found == [int(NOW), int(NOW) + 1, int(NOW) + 2, int(NOW) + 3]

    def test_it_grows_though_the_clock_goes_back(self, home: Home) -> None:
        first = home.bump_incarnation()
        assert Home(home.path, lambda: 0.0).bump_incarnation() == first + 1

    def test_a_lost_file_is_made_good_by_the_clock(self, home: Home) -> None:
        first = home.bump_incarnation()
        (home.path / "incarnation").unlink()
        assert Home(home.path, lambda: NOW + 1).bump_incarnation() > first

    @pytest.mark.parametrize("content", [b"", b"\n", b"-1", b"1e9", b"twelve", b"1" * 20, b"\xff"])
    def test_a_damaged_file_is_named(self, home: Home, content: bytes) -> None:
        home.bump_incarnation()
        (home.path / "incarnation").write_bytes(content)
        with pytest.raises(SecretFileError, match="incarnation is damaged: remove it"):
            home.bump_incarnation()

    def test_it_is_kept_before_it_is_told(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise SecretFileError("disk full")

        monkeypatch.setattr("meshnode.keep.home.write_secret", fail)
        with pytest.raises(SecretFileError):
            home.bump_incarnation()


class TestControlSecret:
    def test_it_is_one_for_each_home(self, home: Home, tmp_path: Path) -> None:
        assert home.control_secret() == Home(home.path).control_secret()
        assert home.control_secret() != Home(tmp_path / "other").control_secret()
        assert len(bytes.fromhex(home.control_secret())) == 32

    @pytest.mark.parametrize("content", [b"", b"abc", b"zz" * 32, b"ab" * 31, b"ab" * 33, b"\xff" * 64])
    def test_a_damaged_one_is_refused(self, home: Home, content: bytes) -> None:
        home.control_secret()
        (home.path / "control.secret").write_bytes(content)
        with pytest.raises(SecretFileError, match="remove it"):
            home.control_secret()


class TestRun:
    def test_it_says_where_the_node_listens(self, home: Home) -> None:
        assert home.read_run() is None
        home.write_run({"pid": 1, "api": "http://127.0.0.1:6374"})
        assert home.read_run() == {"pid": 1, "api": "http://127.0.0.1:6374"}
        home.clear_run()
        home.clear_run()
        assert home.read_run() is None

    @pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
    def test_a_damaged_one_is_named(self, home: Home, content: bytes) -> None:
        home.write_run({})
        home.run.write_bytes(content)
        with pytest.raises(SecretFileError, match=r"run.json is damaged"):
            home.read_run()


@pytest.mark.parametrize("name", SECRET_FILES)
@pytest.mark.parametrize("bits", [0o604, 0o640, 0o644, 0o660, 0o666, 0o777])
def test_a_home_with_a_secret_open_to_others_does_not_start(home: Home, name: str, bits: int) -> None:
    furnish(home)
    (home.path / name).chmod(bits)
    with pytest.raises(SecretFileError, match=f"chmod 600 {home.path / name}"):
        load_all(home)


@pytest.mark.parametrize("name", ["node.key", *OF_MESH])
def test_a_file_cut_anywhere_is_refused(home: Home, name: str) -> None:
    furnish(home)
    whole = (home.path / name).read_bytes()
    for size in range(len(whole)):
        (home.path / name).write_bytes(whole[:size])
        with pytest.raises(SecretFileError, match=f"{name} is cut short.*restore it"):
            load_all(home)


@pytest.mark.parametrize("name", ["node.key", *OF_MESH])
@pytest.mark.parametrize("other", ["node.key", *OF_MESH, "control.secret", None])
def test_a_file_of_another_kind_is_refused(home: Home, name: str, other: str | None) -> None:
    if name == other:
        return
    furnish(home)
    content = codec.encode({"t": "something else"}) if other is None else (home.path / other).read_bytes()
    (home.path / name).write_bytes(content)
    with pytest.raises(SecretFileError, match=name):
        load_all(home)
