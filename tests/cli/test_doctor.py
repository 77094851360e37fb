"""The judgements of `doctor`, from facts that a test writes down; what it prints; that gathering changes nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from meshnode.cli.app import app
from meshnode.cli.doctor import engines as engine_facts
from meshnode.cli.doctor import gather as gathering
from meshnode.cli.doctor import wires
from meshnode.cli.doctor.checks import judge
from meshnode.cli.doctor.facts import (
    Access,
    Asked,
    DialledBack,
    EngineAt,
    Facts,
    File,
    Network,
    Papers,
    Port,
    Storage,
    Wire,
)
from meshnode.cli.doctor.findings import Finding, Result, sound
from meshnode.cli.report import read
from meshnode.config import load
from meshnode.keep.api_keys import load_keys, save_keys
from meshnode.keep.home import Home
from tests.cli.conftest import STATUS, FakeDaemon

HOME = Path("/home/ann/.meshnode")
ETH = Wire("eth0", "lan", ("192.168.1.5",))
DOCKER = Wire("docker0", "bridge", ("172.17.0.1",), "a bridge of containers", "a bridge of containers")
VPN = Wire("wg0", "tunnel", ("10.8.0.2",), "", "multicast does not pass through tunnels")
HERE, THERE = "192.168.1.5:6375", "10.8.0.2:6375"
SOUND = Facts(
    storage=Storage(HOME, files=(File(HOME, 0o700, True), File(HOME / "node.key", 0o600, True)), free_bytes=50 << 30),
    running=read(STATUS),
    ports=(Port("api port", "127.0.0.1:6374", "--api", "meshnode (process 7)", ours=True),),
    network=Network(advertised=(HERE,), wires=(ETH, DOCKER, VPN)),
    papers=Papers("ca", "home", 20 * 86_400, generation=2),
    engines=(EngineAt("ollama", "ollama", "http://127.0.0.1:11434", "ready"),),
    asked=Asked(1, (DialledBack("attic", HERE, True, "", 0.2),)),
)
"""A node in order, on a machine with a LAN, Docker and a VPN."""


@pytest.fixture(autouse=True)
def _called_meshnode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["meshnode"])


def with_network(**changes: Any) -> Facts:
    return dataclasses.replace(SOUND, network=dataclasses.replace(SOUND.network, **changes))


def with_storage(**changes: Any) -> Facts:
    return dataclasses.replace(SOUND, storage=dataclasses.replace(SOUND.storage, **changes))


def with_papers(**changes: Any) -> Facts:
    return dataclasses.replace(SOUND, papers=dataclasses.replace(SOUND.papers, **changes))


def asked(*found: DialledBack, peers: int = 1) -> Facts:
    return dataclasses.replace(SOUND, asked=Asked(peers, found))


def worse(facts: Facts) -> list[Finding]:
    """What is not in order."""
    return [finding for finding in judge(facts) if finding.result is not Result.PASS]


def only(facts: Facts) -> Finding:
    (finding,) = worse(facts)
    assert finding.fix
    return finding


def test_a_node_in_order_passes_everything() -> None:
    assert worse(SOUND) == []
    said = {finding.name: finding.detail for finding in judge(SOUND)}
    assert said["dial back 192.168.1.5:6375"] == "reached by attic"
    assert said["clock"].startswith("1 compared")
    assert said["multicast eth0"] == "it can multicast, and 224.0.0.251 was joined"
    assert "tunnels" in said["multicast wg0"]
    addresses = [finding.detail for finding in judge(SOUND) if finding.name == "addresses"]
    assert addresses == [
        "advertised: 192.168.1.5:6375 (eth0)",
        "docker0 (172.17.0.1) is not advertised: a bridge of containers",
    ]


@pytest.mark.parametrize(
    ("facts", "name", "result", "words"),
    [
        (dataclasses.replace(SOUND, running=None, asked=None), "node", Result.WARN, "meshnode up"),
        (with_storage(writable=False), "home", Result.FAIL, f"chmod u+rwx {HOME}"),
        (with_storage(free_bytes=500 << 20), "disk", Result.WARN, "free some space"),
        (with_storage(free_bytes=1 << 20), "disk", Result.FAIL, "free some space"),
        (with_storage(files=(File(HOME, 0o755, True),)), "key files", Result.FAIL, f"chmod 700 {HOME}"),
        (with_storage(files=(File(HOME / "k", 0o644, True),)), "key files", Result.FAIL, f"chmod 600 {HOME / 'k'}"),
        (with_storage(files=(File(HOME / "k", 0o600, False),)), "key files", Result.FAIL, "chown"),
        (with_storage(files=(File(HOME / "k", 0o777, True, False),)), "key files", Result.FAIL, "file itself"),
        (with_storage(damage=("node.key is damaged",)), "key files", Result.FAIL, "restore"),
        (dataclasses.replace(SOUND, config_faults=("mesh.trust: no",)), "config", Result.FAIL, "correct"),
        (with_network(advertised=()), "addresses", Result.WARN, "mesh.advertise"),
        (with_network(advertised=("127.0.0.1:6375",)), "addresses", Result.WARN, "--mesh :6375"),
        (with_network(advertised=("[::1]:6375",)), "addresses", Result.WARN, "--mesh :6375"),
        (with_network(wires=(dataclasses.replace(ETH, group="denied"),)), "multicast eth0", Result.WARN, "--peer"),
        (with_network(wires=(DOCKER, VPN)), "multicast", Result.WARN, "--peer HOST:PORT"),
        (asked(peers=0), "dial back", Result.WARN, "meshnode invite"),
        (asked(DialledBack("attic", detail="busy")), "dial back", Result.WARN, "again"),
        (dataclasses.replace(SOUND, asked=None, asked_fault="404"), "dial back", Result.WARN, "another version"),
        (asked(DialledBack("attic", HERE, True, "", -31.0)), "clock", Result.WARN, "timedatectl"),
        (asked(DialledBack("attic", HERE, True, "", 301.0)), "clock", Result.FAIL, "timedatectl"),
        (with_papers(until_s=6 * 86_400), "membership", Result.WARN, "may invite"),
        (with_papers(until_s=-10.0), "membership", Result.FAIL, "meshnode invite"),
        (with_papers(revoked="the root did it"), "membership", Result.FAIL, "new home"),
        (with_papers(trust="psk-tofu", secret="mistyped"), "mesh secret", Result.FAIL, "mesh secret -"),
        (dataclasses.replace(SOUND, access=Access(0, 2)), "api keys", Result.WARN, "keys add"),
        (dataclasses.replace(SOUND, access=Access(required=True)), "api keys", Result.WARN, "keys add"),
        (dataclasses.replace(SOUND, access=Access(beyond="0.0.0.0:1")), "api keys", Result.FAIL, "keys add"),
        (dataclasses.replace(SOUND, engines=()), "engines", Result.WARN, "ollama"),
        (
            dataclasses.replace(SOUND, engines=(EngineAt("vllm", "vllm", "http://h:8000", "down", "refused"),)),
            "engine", Result.WARN, "start it",
        ),
        (
            dataclasses.replace(SOUND, engines=(dataclasses.replace(SOUND.engines[0], open_to="0.0.0.0"),)),
            "engine", Result.WARN, "OLLAMA_HOST=127.0.0.1",
        ),
    ],
)  # fmt: skip
def test_each_fault_is_one_line_with_what_mends_it(facts: Facts, name: str, result: Result, words: str) -> None:
    found = only(facts)
    assert (found.name, found.result) == (name, result)
    assert words in found.fix
    assert sound(judge(facts)) is (result is not Result.FAIL)


def test_a_node_that_only_dials_out_has_nothing_to_be_reached_at() -> None:
    facts = dataclasses.replace(
        with_network(listens=False, advertised=()), asked=Asked(1, (DialledBack("attic", "", True, "", 1.0),))
    )
    assert worse(facts) == []
    assert "dials out only" in next(finding.detail for finding in judge(facts) if finding.name == "addresses")


def test_an_address_that_one_peer_misses_is_no_fault_and_is_told() -> None:
    found = (
        DialledBack("attic", HERE, True),
        DialledBack("cellar", HERE, False, "refused"),
        DialledBack("cellar", THERE, True),
    )
    assert worse(asked(*found, peers=2)) == []
    details = {finding.name: finding.detail for finding in judge(asked(*found, peers=2))}
    assert details[f"dial back {HERE}"] == "reached by attic; not by cellar (refused)"


def test_an_address_that_nobody_reaches_is_a_warning_where_another_works() -> None:
    found = only(asked(DialledBack("attic", HERE, True), DialledBack("attic", THERE, False, "no route")))
    assert (found.name, found.result) == (f"dial back {THERE}", Result.WARN)


def test_a_peer_that_reaches_no_address_is_named() -> None:
    found = worse(asked(DialledBack("attic", HERE, True), DialledBack("cellar", HERE, False, "no route"), peers=2))
    assert [(finding.result, "cellar cannot dial" in finding.detail) for finding in found] == [(Result.WARN, True)]


def test_a_node_that_nobody_can_dial_fails() -> None:
    found = worse(
        asked(DialledBack("attic", HERE, False, "no answer"), DialledBack("cellar", HERE, False, "no answer"))
    )
    assert [finding.result for finding in found] == [Result.WARN, Result.FAIL]
    assert "allow TCP port 6375" in found[1].fix and "--mesh none" in found[1].fix


def test_a_container_is_a_warning_until_a_peer_gets_in() -> None:
    sentence = "others reach only published ports: say where with mesh.advertise"
    outside = dataclasses.replace(with_network(confined=sentence), asked=Asked(0))
    assert ("surroundings", "say where with mesh.advertise") in [(one.name, one.fix) for one in worse(outside)]
    assert worse(with_network(confined=sentence)) == []


def test_multicast_that_is_off_is_as_it_should_be() -> None:
    assert worse(with_network(mdns=False, wires=(DOCKER,))) == []


@pytest.mark.parametrize(
    ("skews", "whose"),
    [({"a": 40.0}, "the clock of a, or this machine's"), ({"a": 40.0, "b": 41.0}, "this machine's clock"),
     ({"a": 40.0, "b": 0.1, "c": 0.2}, "the clock of a, or this machine's")],
)  # fmt: skip
def test_whose_clock_is_wrong_is_what_most_say(skews: dict[str, float], whose: str) -> None:
    found = only(asked(*(DialledBack(name, HERE, True, "", skew) for name, skew in skews.items())))
    assert whose in found.fix


@pytest.mark.parametrize(
    ("port", "running", "result", "words"),
    [
        (Port("mesh port", ":6375", "--mesh"), False, Result.PASS, "is free"),
        (Port("mesh port", ":6375", "--mesh", "nginx (process 9)"), False, Result.FAIL, "held by nginx (process 9)"),
        (Port("mesh port", ":6375", "--mesh", "nginx (process 9)"), True, Result.FAIL, "nginx (process 9) listens"),
        (Port("mesh port", ":6375", "--mesh"), True, Result.FAIL, "nobody listens"),
    ],
)
def test_a_port_is_this_nodes_free_or_somebody_elses(port: Port, running: bool, result: Result, words: str) -> None:
    facts = dataclasses.replace(SOUND, ports=(port,), running=SOUND.running if running else None)
    (found,) = [finding for finding in judge(facts) if finding.name == "mesh port"]
    assert found.result is result and words in found.detail
    if not running and result is Result.FAIL:
        assert found.fix == "meshnode up --mesh :0"


def test_a_file_that_is_open_to_others_is_told_once_though_it_could_not_be_read_either() -> None:
    key = HOME / "node.key"
    facts = with_storage(
        files=(File(key, 0o644, True),), damage=(f"{key} is open to others (mode 644): chmod 600 {key}",)
    )
    assert only(facts).fix == f"chmod 600 {key}"


def test_whoever_holds_the_root_renews_itself() -> None:
    assert worse(with_papers(until_s=6 * 86_400, holds_root=True)) == []


# What is printed.


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose wires and engines are not looked at."""
    monkeypatch.setattr(wires, "gather", lambda chosen, multicast: ([ETH], ""))
    monkeypatch.setattr(engine_facts, "DEFAULT_URLS", ())


@pytest.mark.usefixtures("still")
def test_doctor_without_a_node_checks_what_it_can_and_touches_nothing(cli: CliRunner, tmp_path: Path) -> None:
    home = tmp_path / "new"
    result = cli.invoke(app, ["doctor", "--json", "--home", str(home)])
    said = json.loads(result.stdout)
    assert (said["running"], set(said["checks"][0])) == (False, {"name", "result", "detail", "fix"})
    assert said["ok"] is (result.exit_code == 0)
    assert {"node", "home", "api port", "mesh port", "membership"} <= {check["name"] for check in said["checks"]}
    assert not home.exists()


@pytest.mark.usefixtures("still")
def test_doctor_asks_the_running_node_and_its_peers(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    found = {"peer": "attic", "address": HERE, "ok": False, "detail": "no answer", "clock_skew_s": 400.0}
    daemon.answer("POST", "/mesh/doctor", {"peers": 1, "dialled_back": [found]})
    result = cli.invoke(app, ["doctor", "--home", str(home)])
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert any(line.startswith("PASS  node ") and "studio" in line for line in lines)
    assert f"WARN  dial back {HERE}  not reached by attic (no answer)" in lines
    assert any(line.startswith("FAIL  clock ") for line in lines)
    assert sum(line.strip().startswith("fix: ") for line in lines) == sum(
        line.startswith(("WARN", "FAIL")) for line in lines
    )
    assert lines[-1].endswith(" fail")


@pytest.mark.usefixtures("still")
def test_doctor_of_a_home_that_others_may_read_fails_with_the_command_that_mends_it(
    cli: CliRunner, tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    home.found_mesh(home.node_key(), "office")
    (home.path / "node.key").chmod(0o644)
    result = cli.invoke(app, ["doctor", "--home", str(home.path)])
    assert result.exit_code == 1
    assert f"fix: chmod 600 {home.path / 'node.key'}\n" in result.stdout


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("file", ["node.key", "mesh.cbor", "pins.cbor", "invites.cbor", "control.secret", "keys.cbor"])
def test_a_damaged_file_is_found_and_not_replaced(cli: CliRunner, tmp_path: Path, file: str) -> None:
    home = Home(tmp_path / "home")
    home.found_mesh(home.node_key(), "office")
    (home.path / file).write_bytes(b"damaged")
    (home.path / file).chmod(0o600)
    result = cli.invoke(app, ["doctor", "--json", "--home", str(home.path)])
    assert result.exit_code == 1
    assert [file in check["detail"] for check in json.loads(result.stdout)["checks"] if check["result"] == "FAIL"]
    assert (home.path / file).read_bytes() == b"damaged"


@pytest.mark.usefixtures("still")
def test_the_certificate_of_a_home_is_read_without_a_node(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.found_mesh(home.node_key(), "office")
    kept, damage = gathering._kept(home.path, "ca")
    assert damage == () and kept.mesh == "office" and kept.holds_root
    assert kept.until_s is not None and kept.until_s > 29 * 86_400
    assert gathering._kept(home.path, "psk-tofu")[0].secret


@pytest.mark.parametrize(
    ("api", "beyond"),
    [
        ("127.0.0.1:6374", ""), ("localhost:6374", ""), ("[::1]:6374", ""), ("0.0.0.0:6374", "0.0.0.0:6374"),
        (":6374", ":6374"), ("192.168.1.5:6374", "192.168.1.5:6374"), ("box.lan:6374", "box.lan:6374"),
    ],
)  # fmt: skip
def test_keys_are_counted_and_it_is_seen_who_reaches_the_api(
    cli: CliRunner, tmp_path: Path, api: str, beyond: str
) -> None:
    for _ in range(2):
        cli.invoke(app, ["keys", "add", "--owner", "ann", "--home", str(tmp_path)])
    save_keys(tmp_path, load_keys(tmp_path).revoked(load_keys(tmp_path).records[0].id, 1000.0)[0])
    config = load(flags={"front": {"api": api}})
    assert gathering._access(tmp_path, config, None) == (Access(1, 1, beyond), ())
    assert gathering._access(tmp_path / "new", config, None) == (Access(0, 0, beyond), ())


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_in_use_is_found_by_its_process(port: int, tmp_path: Path) -> None:
    place = gathering.place.Place(tmp_path, usual=True)
    found = gathering._port("api port", f"127.0.0.1:{port}", "--api", None, place, None)
    assert f"process {os.getpid()}" in found.holder and not found.ours
    ours = gathering._port("api port", f"127.0.0.1:{port}", "--api", os.getpid(), place, read(STATUS))
    assert ours.ours
    assert wires.answers(f"127.0.0.1:{port}") and wires.answers(f":{port}")


def test_an_engine_is_open_when_its_port_listens_everywhere() -> None:
    wild = {11434: "0.0.0.0"}
    assert engine_facts.open_to("http://127.0.0.1:11434", "ready", wild) == "0.0.0.0"
    assert engine_facts.open_to("http://127.0.0.1:8080", "ready", wild) == ""
    assert engine_facts.open_to("http://127.0.0.1:11434", "down", wild) == ""
    assert engine_facts.open_to("http://other:11434", "ready", wild) == ""
    assert engine_facts.open_to("nonsense:port", "ready", wild) == ""


@pytest.mark.parametrize(
    ("listen", "told"),
    [
        (":6375", ("192.168.1.5:6375", "[fd00::5]:6375")),
        ("0.0.0.0:6375", ("192.168.1.5:6375",)),
        ("10.1.1.1:7", ("10.1.1.1:7",)),
        ("nowhere", ()),
    ],
)
def test_without_a_node_the_addresses_are_those_that_it_would_tell(listen: str, told: tuple[str, ...]) -> None:
    found = [Wire("eth0", "lan", ("192.168.1.5", "fd00::5")), DOCKER]
    assert wires.told(listen, found) == told
