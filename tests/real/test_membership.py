"""A mesh is given to people: members revoked, secrets rotated, certificates renewed and keys changed under streams.

Five nodes where a test needs them: four stand for the whole module, a test adds its own fifth. Their engines stream
slowly until they are told to hurry, so that whatever a test does happens while streams run. Invites, trust modes and
key files are seen as people see them: by what the commands print. Counterpart: tests/world, on a virtual clock.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshnode.identity import MEMBERSHIP_LIFETIME_S, Invite, Issuer, MeshRoot
from meshnode.identity.certificates import read_membership
from meshnode.keep.home import Home
from tests.real.kit import (
    ENVIRONMENT,
    MESHNODE,
    PATIENCE_S,
    Caller,
    EngineThread,
    NodeProcess,
    Nodes,
    Pace,
    command,
    reached,
    say,
    see_each_other,
    until,
)

pytestmark = pytest.mark.real

ANYWHERE = "127.0.0.1:0"
DAY_S = 86_400

TOKENS = 400
"""At its pace no stream ends by itself within a test."""

STEADY_S = 0.05
"""Where many streams are to have bytes under way whenever something happens."""


class SlowEngine(EngineThread):
    """One model, whose streams go on until `hurry`; `calm` for the next ones."""

    def __init__(self, model: str, slots: int = 64) -> None:
        super().__init__(models=(model,), slots=slots)
        self.calm()

    def calm(self) -> None:
        self._pace = Pace(TOKENS)
        self.fake.behaviour = self._pace

    def hurry(self, token_s: float = 0.0) -> None:
        self._pace.hurry(token_s)


class Talk(threading.Thread):
    """One stream on a thread of its own, read to its end: `whole`, or not."""

    def __init__(self, node: NodeProcess, model: str) -> None:
        super().__init__(name=f"{node.name} asks {model}")
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": True}
        self._caller = Caller(node, "/v1/chat/completions", body)
        self.text = b""
        self.begun = threading.Event()
        self.start()

    def run(self) -> None:
        with self._caller:
            while b"data: [DONE]" not in self.text and (more := self._caller.socket.recv(65_536)):
                self.text += more
                if b"t1 " in self.text:
                    self.begun.set()
        self.begun.set()

    @property
    def whole(self) -> bool:
        """Every word came, in order, and the end."""
        lines = [line[6:] for line in self.text.splitlines() if line.startswith(b"data: {")]
        deltas = [choice["delta"] for line in lines for choice in json.loads(line).get("choices", ())]
        words = "".join(delta.get("content") or "" for delta in deltas)
        return words == "".join(f"t{index} " for index in range(TOKENS)) and b"data: [DONE]" in self.text

    def ended(self) -> Talk:
        self.join(PATIENCE_S)
        assert not self.is_alive(), f"{self.name} did not end"
        return self


def talks(*pairs: tuple[NodeProcess, str]) -> list[Talk]:
    """Streams that run, each past its first words."""
    begun = [Talk(node, model) for node, model in pairs]
    for talk in begun:
        assert talk.begun.wait(PATIENCE_S) and talk.is_alive(), f"{talk.name}: {talk.text[-300:]!r}"
    return begun


@dataclass
class Mesh:
    """alpha began it, bravo and delta have an engine each, everybody listens: each test adds the fifth."""

    family: Nodes
    alpha: NodeProcess
    bravo: NodeProcess
    charlie: NodeProcess
    delta: NodeProcess
    engines: dict[str, SlowEngine]

    @property
    def four(self) -> tuple[NodeProcess, ...]:
        return (self.alpha, self.bravo, self.charlie, self.delta)

    def pairs(self) -> list[tuple[NodeProcess, str]]:
        """Who asks for what: over six links, both ways on one of them."""
        return [
            (self.alpha, "bravo's"),
            (self.alpha, "delta's"),
            (self.bravo, "delta's"),
            (self.charlie, "bravo's"),
            (self.charlie, "delta's"),
            (self.delta, "bravo's"),
        ]

    def all_whole(self, running: list[Talk]) -> None:
        """Let streams that still run come to their end, and see that nothing of them is missing."""
        assert all(talk.is_alive() for talk in running), [talk.name for talk in running if not talk.is_alive()]
        for engine in self.engines.values():
            engine.hurry()
        assert [talk.name for talk in running if not talk.ended().whole] == []

    def one_secret(self, generation: int) -> None:
        """Wait until the four have the network secret of this generation."""
        for node in self.four:
            until(lambda node=node: node.status()["mesh"]["secret_generation"] == generation, f"{node.name} has it")

    @contextmanager
    def no_link_cut(self, *others: NodeProcess) -> Iterator[None]:
        """No link between the four and `others` may end meanwhile."""
        watched = (*self.four, *others)
        names = {node.status()["node"]["short"] for node in watched}
        marks = {node: len(events(node, "unlinked")) for node in watched}
        yield
        for node, mark in marks.items():
            assert [line for line in events(node, "unlinked")[mark:] if line["peer"] in names] == [], node.name


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with ExitStack() as stack:
        nodes = stack.enter_context(Nodes(tmp_path_factory.mktemp("membership"), level="debug"))
        engines = {name: stack.enter_context(SlowEngine(f"{name}'s")) for name in ("bravo", "delta")}
        yield Mesh(
            family=nodes,
            alpha=nodes.add("alpha", mesh=ANYWHERE),
            bravo=nodes.add("bravo", "--engine-url", engines["bravo"].url, mesh=ANYWHERE),
            charlie=nodes.add("charlie", mesh=ANYWHERE),
            delta=nodes.add("delta", "--engine-url", engines["delta"].url, mesh=ANYWHERE),
            engines=engines,
        )


@pytest.fixture
def mesh(standing: Mesh) -> Mesh:
    for engine in standing.engines.values():
        engine.calm()
    see_each_other(standing.four, {"bravo's", "delta's"})
    linked(standing.four)
    return standing


def linked(nodes: tuple[NodeProcess, ...]) -> None:
    """Wait until each has a link to each, whatever way its requests take: after a slow first ping that is another."""
    for node in nodes:
        others = {other.name for other in nodes if other is not node}
        until(lambda node=node, others=others: neighbours(node) >= others, f"{node.name} is linked to {others}")


def neighbours(node: NodeProcess) -> set[str]:
    """Names of those that it is linked to."""
    return {peer["name"] for peer in node.status()["peers"] if peer["address"] is not None}


def events(node: NodeProcess, name: str, words: str = "") -> list[dict[str, Any]]:
    """Lines of its log since its start that begin so, those with these words."""
    found = [line for line in list(node.lines) if str(line.get("event")).startswith(name)]
    return [line for line in found if words in str(line)]


def logged(node: NodeProcess, name: str, words: str = "") -> dict[str, Any]:
    """The last such line, waiting for the first: a pipe may be slower than the answer."""
    return until(lambda: events(node, name, words), f"{node.name} logs {name}: {words}")[-1]


def refused(*arguments: str, given: str = "") -> str:
    """What a command said that failed as commands do: exit code 1, nothing on standard output, no traceback."""
    ran = subprocess.run(
        [*MESHNODE, *arguments], input=given.encode(), capture_output=True, timeout=PATIENCE_S, env=ENVIRONMENT,
        check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (1, b""), ran
    said = ran.stderr.decode()
    assert said.startswith("meshnode: ") and "Traceback" not in said, said
    return said.removeprefix("meshnode: ").strip()


# Revocation, rotation, renewal, new keys: under streams.


def test_a_revoked_node_is_dropped_by_all_and_nobody_elses_stream_is_cut(mesh: Mesh) -> None:
    with SlowEngine("echo's") as engine, mesh.family.add("echo", "--engine-url", engine.url, mesh=ANYWHERE) as echo:
        five = (*mesh.four, echo)
        see_each_other(five, {"bravo's", "delta's", "echo's"})
        linked(five)
        before = mesh.family.folder / "echo before"
        shutil.copytree(echo.home, before, ignore=shutil.ignore_patterns("lock", "run.json"))
        others, its_own = talks(*mesh.pairs()), talks((mesh.charlie, "echo's"), (echo, "bravo's"))
        began = time.perf_counter()
        done = command("peers", "revoke", "echo", "--yes", "--home", str(mesh.alpha.home))
        for node in mesh.four:
            until(lambda node=node: "echo" not in reached(node), f"{node.name} has dropped echo")
        dropped_s = time.perf_counter() - began
        cut = [talk.ended() for talk in its_own]
        cut_s = time.perf_counter() - began
        mesh.all_whole(others)
        say(f"dropped by all {dropped_s:.3f} s after the command began, its streams cut after {cut_s:.3f} s")
        assert "is revoked: out of the mesh for ever" in done
        assert not any(talk.whole for talk in cut)
        assert all("echo's" not in node.models() for node in mesh.four)
        mesh.one_secret(mesh.alpha.status()["mesh"]["secret_generation"])
        assert echo.status()["mesh"]["secret_generation"] < mesh.alpha.status()["mesh"]["secret_generation"]
        knows_that_it_is_out(echo)
        echo.terminate()
        assert echo.ended() == 0
        echo.start()
        knows_that_it_is_out(echo)
        echo.kill()
        nobody_lets_in(mesh, before, "was revoked")


def knows_that_it_is_out(node: NodeProcess) -> None:
    """Its status, its health page, its log and its commands say so, and it reaches nobody."""
    assert "was revoked" in until(lambda: node.status()["mesh"]["revoked"], f"{node.name} knows")
    assert "was revoked" in node.get("/healthz")["revoked"]
    told = logged(node, "this node is out of its mesh")
    assert len(events(node, "this node is out of its mesh")) == 1
    assert told["level"] == "error" and "was revoked" in told["reason"] and "meshnode leave" in told["event"]
    assert reached(node) == set()
    assert "REVOKED" in command("mesh", "show", "--home", str(node.home))


def nobody_lets_in(mesh: Mesh, home: Path, reason: str) -> None:
    """A copy of a home from before is refused in words by all four, and says so in its log."""
    named = [word for node in mesh.four for word in ("--peer", node.mesh)]
    with NodeProcess(home, "--engines", "none", *named) as again:
        for node in mesh.four:
            until(lambda node=node: _refusals(again, node, reason), f"{node.name} has refused it")
            assert logged(node, "a connection was refused", reason)
            assert again.name not in node.peers()
        assert reached(again) == set()


def _refusals(node: NodeProcess, by: NodeProcess, reason: str) -> list[dict[str, Any]]:
    found = events(node, "a peer cannot be reached", "refused this node")
    said = [line for line in found if by.mesh in line["at"] and reason in line["reason"]]
    assert all(line["level"] == "warning" and "do" in line for line in said[:1])
    return said


def test_a_rotated_secret_cuts_nothing_and_who_was_away_comes_back(mesh: Mesh) -> None:
    with mesh.family.add("foxtrot", mesh=ANYWHERE) as foxtrot:
        linked((*mesh.four, foxtrot))
        foxtrot.kill()
        with mesh.no_link_cut():
            running = talks(*mesh.pairs())
            said = command("mesh", "rotate", "--home", str(mesh.alpha.home))
            generation = mesh.alpha.status()["mesh"]["secret_generation"]
            mesh.one_secret(generation)
            foxtrot.start()
            until(lambda: foxtrot.status()["mesh"]["secret_generation"] == generation, "it hears of the new secret")
            linked((*mesh.four, foxtrot))
            mesh.all_whole(running)
        assert f"generation {generation}" in said and "24 h" in said


def test_a_certificate_near_its_end_is_renewed_over_a_link_and_none_is_cut(mesh: Mesh) -> None:
    with mesh.family.add("golf", mesh=ANYWHERE) as golf:
        golf.terminate()
        assert golf.ended() == 0
        old = ends_soon(golf.home, mesh.alpha.home)
        with mesh.no_link_cut():
            running = talks(*mesh.pairs())
            golf.start()
            golf.event("membership renewed")
            linked((*mesh.four, golf))
            running += talks((golf, "bravo's"), (golf, "delta's"))
            until(lambda: member_until(golf.home) > old + 28 * DAY_S, "the new certificate is on disk")
            mesh.all_whole(running)
        assert events(golf, "unlinked") == []
        shown = golf.status()["mesh"]
        assert set(shown["roles"]) == {"client", "relay", "serve", "invite"} and shown["revoked"] is None
        golf.terminate()
        assert golf.ended() == 0
        golf.start()
        linked((*mesh.four, golf))


def ends_soon(home: Path, root: Path) -> int:
    """Put a certificate in `home` that ends in an hour, as its mesh would have made it 30 days ago; when it ends."""
    founder, member = Home(root), Home(home)
    key = member.node_key()
    membership, founding = member.membership(key), founder.membership(founder.node_key())
    assert membership is not None and founding is not None and founding.root_seed is not None
    issuer = Issuer(MeshRoot.from_seed(founding.root_seed), founding.mesh.id)
    made_at = int(time.time()) - MEMBERSHIP_LIFETIME_S + 3600
    member.save_membership(msgspec.structs.replace(membership, chain=issuer.issue(key.id, made_at, 1)))
    return member_until(home)


def member_until(home: Path) -> int:
    """When the membership that is kept in a home ends, wall-clock seconds."""
    opened = Home(home)
    membership = opened.membership(opened.node_key())
    assert membership is not None
    return read_membership(membership.chain[0]).not_after


def test_fifty_streams_are_carried_over_new_keys(mesh: Mesh) -> None:
    # Silence is no end here: with pings so close, that a neighbour stood still for half a second would be one.
    often = "[mesh]\nrekey_s = 3\nping_s = 0.2\nping_misses = 300\n"
    with mesh.family.add("hotel", config=often) as hotel:
        see_each_other((hotel,), {"bravo's", "delta's"})
        linked((hotel, *mesh.four))
        with mesh.no_link_cut(hotel):
            running = talks(*[(hotel, model) for model in ("bravo's", "delta's") for _ in range(25)])
            for engine in mesh.engines.values():
                engine.hurry(STEADY_S)
            mark = len(events(hotel, "a link has new keys"))
            until(lambda: len(peers_of(events(hotel, "a link has new keys")[mark:])) == 4, "all links have new keys")
            mesh.all_whole(running)
        say(f"{len(events(hotel, 'a link has new keys')) - mark} changes of keys under {len(running)} streams")


def peers_of(lines: list[dict[str, Any]]) -> set[str]:
    return {line["peer"] for line in lines}


# Invites.


@pytest.fixture
def joiner(tmp_path: Path) -> Path:
    """A home that has its key already, so that whatever else comes is seen."""
    with Home(tmp_path / "joiner") as home:
        home.node_key()
    return home.path


def kept(home: Path) -> dict[str, bytes]:
    """Every file of a home, but the lock, which names the process that had it last."""
    files = (path for path in home.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(home)): path.read_bytes() for path in files}


def bent(token: str, **change: Any) -> str:
    """Another well-formed line."""
    return msgspec.structs.replace(Invite.parse(token, 0), **change).token()


def refused_to_join(home: Path, token: str) -> str:
    """What `join` said; nothing may have changed in the home."""
    before = kept(home)
    said = refused("join", token, "--home", str(home))
    assert kept(home) == before
    return said


def test_an_invite_used_twice_is_refused_on_both_sides(mesh: Mesh, joiner: Path, tmp_path: Path) -> None:
    token = mesh.family.invite()
    command("join", token, "--home", str(tmp_path / "first"))
    said = refused_to_join(joiner, token)
    assert re.fullmatch(
        r"the inviting node refused: the invite has been used by '.+'; make a new one for each machine", said
    )
    assert logged(mesh.alpha, "a join was refused", "has been used")["level"] == "warning"


def test_an_expired_invite_is_refused_on_both_sides(mesh: Mesh, joiner: Path) -> None:
    token = command("invite", "--expires", "1s", "--home", str(mesh.alpha.home)).strip()
    end = Invite.parse(token, 0).expires
    until(lambda: time.time() > end + 1, "it has expired")
    assert refused_to_join(joiner, token) == "the invite has expired; make a new one"
    # A machine whose clock is behind finds it good, and is told by the node that made it.
    said = refused_to_join(joiner, bent(token, expires=end + 3600))
    assert said == "the inviting node refused: the invite has expired; make a new one"
    assert logged(mesh.alpha, "a join was refused", "the invite has expired")["level"] == "warning"


def test_a_guessed_invite_gets_not_a_byte(mesh: Mesh, joiner: Path) -> None:
    token = mesh.family.invite()
    for mistyped in (token[:-3], token[:40] + ("A" if token[40] != "A" else "B") + token[41:]):
        assert refused_to_join(joiner, mistyped).startswith("the invite is mistyped or cut short: ")
    assert refused_to_join(joiner, "let me in") == "not an invite: it begins with mesh1-"
    said = refused_to_join(joiner, bent(token, secret=secrets.token_bytes(16)))
    assert said.startswith("no way in (") and "make a new one on a machine that this one can dial" in said
    assert logged(mesh.alpha, "a connection was refused", "a stranger: no secret of this node fits")
    command("join", token, "--home", str(joiner))


def test_an_invite_for_another_mesh_opens_nothing(mesh: Mesh, joiner: Path) -> None:
    said = refused_to_join(joiner, bent(mesh.family.invite(), mesh=secrets.token_bytes(32)))
    assert said.startswith("no way in (") and "may be of another mesh or forgotten there" in said


def test_a_node_of_another_mesh_with_members_joins_no_second_one(mesh: Mesh, tmp_path: Path) -> None:
    token = mesh.family.invite()
    with Nodes(tmp_path, level="debug") as others:
        kilo, lima = others.add("kilo", mesh=ANYWHERE), others.add("lima")
        linked((kilo, lima))
        said = refused("join", token, "--home", str(lima.home))
        assert "is in the mesh 'home' with 1 other node" in said and "meshnode leave" in said
        assert lima.status()["mesh"]["id"] == kilo.status()["mesh"]["id"]
        for node in (kilo, lima):
            node.terminate()
            assert node.ended() == 0
        for node in (kilo, lima):
            said = refused_to_join(node.home, token)
            assert "is in the mesh 'home'" in said and "meshnode leave" in said
    # The invite was not used up.
    command("join", token, "--home", str(tmp_path / "joiner"))


# Trust modes.


AGAIN = "redial_max_s = 0.5\n"
"""What was refused is tried again at once."""


def test_pinned_nodes_link_once_each_has_pinned_the_other(tmp_path: Path) -> None:
    config = f'[mesh]\ntrust = "pinned"\n{AGAIN}'
    with Nodes(tmp_path, level="debug") as nodes:
        mike = nodes.add("mike", mesh=ANYWHERE, config=config)
        november = nodes.add("november", mesh=ANYWHERE, config=config)
        oscar = nodes.add("oscar", "--engines", "none", "--peer", november.mesh, config=config)
        until(lambda: reached(mike) == {"november", "oscar"}, "an invite pins on both sides")
        logged(oscar, "a peer cannot be reached", "is not pinned here")
        assert oscar.peers().keys() == november.peers().keys() == {"mike"}
        until(lambda: trusts(oscar, november), "pinned by oscar")
        until(lambda: _refusals(oscar, november, "is not pinned here"), "november refuses oscar, and says why")
        assert logged(november, "a connection was refused", "is not pinned here: `meshnode peers trust` it")
        assert neighbours(oscar) == neighbours(november) == {"mike"}
        trusts(november, oscar)
        linked((november, oscar))
        assert all(node.get("/healthz")["trust"] == "pinned" for node in (mike, november, oscar))
        assert all(peer["pinned"] for node in (november, oscar) for peer in node.status()["peers"])


def trusts(node: NodeProcess, other: NodeProcess) -> str:
    """`peers trust`, by the whole id: a node that is not believed is not listed by its name."""
    return command("peers", "trust", other.get("/healthz")["meshnode"], "--home", str(node.home))


def test_a_secret_line_makes_a_mesh_and_keeps_each_name_to_its_key(tmp_path: Path) -> None:
    homes = [tmp_path / name for name in ("papa", "quebec", "elsewhere/quebec")]
    secret = command("mesh", "secret", "--home", str(homes[0]))
    for home in homes[1:]:
        assert secret.strip() not in command("mesh", "secret", "-", "--home", str(home), given=secret)
    for home in homes:
        (home / "config.toml").write_text(f"[mesh]\n{AGAIN}")
        assert (home / "mesh.secret").read_text() == secret
        assert stat.S_IMODE((home / "mesh.secret").stat().st_mode) == 0o600
    usual = ("--engines", "none", "--trust", "psk-tofu")
    with NodeProcess(homes[0], *usual, mesh=ANYWHERE, level="debug") as papa:
        with NodeProcess(homes[1], *usual, "--peer", papa.mesh, level="debug") as quebec:
            linked((papa, quebec))
            assert papa.get("/healthz")["trust"] == "psk-tofu"
            quebec.terminate()
            assert quebec.ended() == 0
        with NodeProcess(homes[2], *usual, "--peer", papa.mesh, level="debug") as another:
            until(lambda: _refusals(another, papa, "the name 'quebec' belongs to"), "another key is refused")
            assert logged(papa, "a connection was refused", "the name 'quebec' belongs to")
            assert reached(papa) == reached(another) == set()
            assert "is forgotten" in command("peers", "forget", "quebec", "--home", str(papa.home))
            linked((papa, another))


def test_two_meshes_on_one_machine_stay_apart(mesh: Mesh, tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "romeo", "--engines", "none", "--peer", mesh.alpha.mesh, mesh=ANYWHERE) as romeo:
        said = logged(romeo, "a peer cannot be reached")
        assert said["at"] == [mesh.alpha.mesh] and "of another mesh" in said["reason"]
        assert romeo.status()["mesh"]["id"] != mesh.alpha.status()["mesh"]["id"]
        assert romeo.status()["mesh"]["nodes"] == 1 and romeo.models() == set()
        assert all("romeo" not in node.peers() for node in mesh.four)


# Leaving.


def test_who_leaves_is_forgotten_at_once_and_may_come_again(mesh: Mesh) -> None:
    with mesh.family.add("juliett", mesh=ANYWHERE) as juliett:
        linked((*mesh.four, juliett))
        running = talks(*mesh.pairs())
        began = time.perf_counter()
        assert 'left mesh "home"' in command("leave", "--home", str(juliett.home))
        for node in mesh.four:
            until(lambda node=node: "juliett" not in node.peers(), f"{node.name} has forgotten juliett")
        say(f"forgotten by all {time.perf_counter() - began:.3f} s after the command began")
        alone = juliett.status()["mesh"]
        assert alone["nodes"] == 1 and alone["holds_root"] and alone["id"] != mesh.alpha.status()["mesh"]["id"]
        assert "joined mesh" in command("join", mesh.family.invite(), "--home", str(juliett.home))
        linked((*mesh.four, juliett))
        mesh.all_whole(running)


def test_the_root_does_not_leave_by_accident(mesh: Mesh) -> None:
    before = mesh.alpha.status()["mesh"]["id"]
    said = refused("leave", "--home", str(mesh.alpha.home))
    assert "holds the root of the mesh" in said and "meshnode invite --root" in said and "force" in said
    assert mesh.alpha.status()["mesh"]["id"] == before
    linked(mesh.four)


# Key files.


def open_to_others(key: Path) -> None:
    key.chmod(0o644)


def truncated(key: Path) -> None:
    key.write_bytes(key.read_bytes()[:20])


def of_another_node(key: Path) -> None:
    with Home(key.parent.parent / "other") as other:
        other.node_key()
    shutil.copy(other.path / "node.key", key)


def gone(key: Path) -> None:
    key.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (open_to_others, r"node\.key is open to others \(mode 644\): chmod 600 .*node\.key"),
        (truncated, r"node\.key is cut short, damaged or another kind of file .*: restore it from a copy"),
        (of_another_node, r"mesh\.cbor is another node's: restore its node\.key, or move it away to begin anew"),
        (gone, r"node\.key is missing, but a node has been here: restore it, or move mesh\.cbor .* away"),
    ],
)
def test_a_spoilt_key_is_never_replaced(tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    with Home(tmp_path / "node") as home:
        home.found_mesh(home.node_key(), "home")
    spoil(home.path / "node.key")
    before = kept(home.path)
    said = refused(
        "up", "--home", str(home.path), "--api", ANYWHERE, "--mesh", "none", "--no-mdns", "--engines", "none"
    )
    assert re.search(words, said), said
    after = kept(home.path)
    assert {name: after.get(name) for name in ("node.key", "mesh.cbor")} == {
        name: before.get(name) for name in ("node.key", "mesh.cbor")
    }
