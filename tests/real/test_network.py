"""What networks do to a mesh: multicast, NAT, cut cables, new addresses, IPv6 alone; each in namespaces of its own."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import openai
import pytest

from meshnode.mesh.records import mesh_hash
from meshnode.model.ids import NodeId
from tests.real.kit import exists, say, until
from tests.real.lab import Cable, Capture, Host, HostNode, Lab, Segment, ip, lacking, run, together

pytestmark = pytest.mark.real

MODEL = "fake-model"
MDNS_PORT = 5353
DNS_FLAGS_AT = 14 + 20 + 8 + 2
"""In an Ethernet frame with IPv4 and UDP: after those three headers and the message's id (RFC 1035 §4.1.1)."""
DNS_ANSWER = 0x80

HASTE = "ping_s = 0.5\nping_misses = 10\nredial_max_s = 1.0\n"
"""A dead link is noticed after 5 s instead of 15, and what cannot be dialled is tried each second. Sooner, and a link
whose other end only stood still for a moment would be taken for dead."""
QUIET = f"[mesh]\nmdns = false\n{HASTE}"
BY_MULTICAST = f"[mesh]\nmdns = true\n{HASTE}"

NETS = {
    "IPv4": ("10.77.0.1/24", "10.77.0.2/24", "10.77.0.3/24"),
    "IPv6": ("fd77::1/64", "fd77::2/64", "fd77::3/64"),
}
IP_VERSIONS = pytest.mark.parametrize("version", NETS)


@cache
def no_lab() -> str:
    """Why there is none."""
    return lacking()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    if reason := no_lab():
        pytest.skip(reason)
    with Lab(tmp_path) as made:
        yield made


def state(node: HostNode, other: HostNode) -> str:
    """How `node` reaches `other`: direct, relay or gone; "" when it never heard of it."""
    return node.peers().get(other.name, "")


def linked(*nodes: HostNode) -> None:
    """Wait until each has a link to each."""
    for node in nodes:
        for other in nodes:
            if other is not node:
                until(lambda n=node, o=other: state(n, o) == "direct", f"{node.name} is linked to {other.name}")


def peer(node: HostNode, other: HostNode) -> dict[str, Any]:
    """What `node` says of `other`."""
    found: dict[str, Any] = next(entry for entry in node.status()["peers"] if entry["name"] == other.name)
    return found


def servers(node: HostNode) -> set[str]:
    """Names of the nodes that can serve, as `node` sees it."""
    return {place["name"] for model in node.status()["models"] for place in model["nodes"]}


def pair(lab: Lab, version: str, config: str) -> tuple[Segment, HostNode, HostNode]:
    """Two members of one mesh on one segment, with addresses of one version of IP; the second was never started."""
    lan, hosts = lab.segment("lan"), [lab.host(name) for name in ("antonia", "bertram")]
    for host, address in zip(hosts, NETS[version], strict=False):
        host.plug(lan, address)
    inviter = hosts[0].node(config=config)
    return lan, inviter, hosts[1].node(config=config, invite=inviter.invite(), start=False)


# Multicast


def estranged(lab: Lab, version: str) -> tuple[Segment, HostNode, HostNode]:
    """Two members that have never met since they joined, and remember no address."""
    lan, antonia, bertram = pair(lab, version, BY_MULTICAST)
    antonia.kill()
    for node in (antonia, bertram):
        (node.home / "addresses.cbor").unlink(missing_ok=True)
    return lan, antonia, bertram


def find_each_other(antonia: HostNode, bertram: HostNode) -> float:
    """Start both; seconds until they are linked, once both are ready."""
    together(antonia.start, bertram.start)
    began = time.perf_counter()
    linked(antonia, bertram)
    return time.perf_counter() - began


@IP_VERSIONS
def test_two_nodes_of_one_mesh_on_one_segment_find_each_other(lab: Lab, version: str) -> None:
    """No address was given, none is remembered: only multicast tells."""
    _, antonia, bertram = estranged(lab, version)
    took_s = find_each_other(antonia, bertram)
    say(f"{version}: linked {took_s:.3f} s after both were ready")


def spellings(data: bytes) -> list[bytes]:
    """Ways to write an id that a name or a TXT record could hold."""
    base32 = base64.b32encode(data).rstrip(b"=")
    return [data, data.hex().encode(), base32, base32.lower(), base64.b64encode(data)[:-2]]


def names_of(node: HostNode) -> list[bytes]:
    """What must not be read off the wire: who a node is, on which machine, in which mesh."""
    status = node.status()
    keys = [NodeId.parse(status[whose]["id"]) for whose in ("node", "mesh")]
    texts = [node.name, node.host.hostname, *(key.short for key in keys)]
    return [text.encode() for text in texts] + [spelt for key in keys for spelt in spellings(bytes(key))]


def txt_record(node: HostNode) -> bytes:
    """All that its TXT record may hold, with its length before it: RFC 1035 §3.3.14."""
    mesh = mesh_hash(bytes(NodeId.parse(node.status()["mesh"]["id"])))
    text = b"".join(bytes([len(pair)]) + pair for pair in (b"v=1", b"m=" + mesh))
    return len(text).to_bytes(2, "big") + text


def offers(wire: Capture, cable: Cable) -> list[bytes]:
    """Answers by multicast that came out of a cable, as whole frames."""
    return [frame for frame in wire.udp_v4(MDNS_PORT) if frame[6:12] == cable.mac and frame[DNS_FLAGS_AT] & DNS_ANSWER]


def test_a_mesh_on_the_same_segment_stays_apart_and_nobody_is_named_on_the_wire(lab: Lab) -> None:
    lan, antonia, bertram = estranged(lab, "IPv4")
    other = lab.host("zacharias")
    plug = other.plug(lan, NETS["IPv4"][2])
    with lan.capture() as wire:
        zacharias = other.node(config=BY_MULTICAST)
        find_each_other(antonia, bertram)
        until(lambda: txt_record(zacharias) in b"".join(offers(wire, plug)), "zacharias has announced itself")
        # The two heard each other and dialled; zacharias, who heard them too, has had a second more than they to do so.
        met_s = zacharias.status()["node"]["uptime_s"]
        until(lambda: zacharias.status()["node"]["uptime_s"] > met_s + 1.0, "zacharias had the time to dial")
        assert zacharias.peers() == {}
        assert (set(antonia.peers()), set(bertram.peers())) == ({"bertram"}, {"antonia"})
        names = [name for node in (antonia, bertram, zacharias) for name in names_of(node)]
        ours, theirs = txt_record(antonia), txt_record(zacharias)
    said = b"\n".join(wire.udp_v4(MDNS_PORT))
    assert ours in said and theirs in said and ours != theirs
    assert wire.tcp(antonia.host.cables[0].mac) != []
    assert wire.tcp(plug.mac) == []
    everything = b"\n".join(wire.frames)
    assert [name for name in names if name in everything] == []


# NAT


def behind_nat(lab: Lab, name: str, wan: Segment, outside: str, number: int) -> tuple[Host, Host]:
    """A host on a private segment, and the NAT between that and `wan`."""
    segment, host, router = lab.segment(f"lan-of-{name}"), lab.host(name), lab.host(f"nat-of-{name}")
    host.plug(segment, f"192.168.{number}.2/24")
    router.plug(segment, f"192.168.{number}.1/24")
    router.masquerade(router.plug(wan, outside))
    host.route("default", "via", f"192.168.{number}.1")
    return host, router


def test_a_node_behind_nat_serves_a_node_behind_another_nat(lab: Lab) -> None:
    """Both only dial out; the public node between them relays."""
    wan, public = lab.segment("wan"), lab.host("public")
    public.plug(wan, "203.0.113.1/24")
    homely, _ = behind_nat(lab, "homely", wan, "203.0.113.2/24", 1)
    office, _ = behind_nat(lab, "office", wan, "203.0.113.3/24", 2)
    relay = public.node(config=QUIET)
    engine = homely.engine()
    server, asker = together(
        partial(homely.node, "--engine-url", engine.url, mesh="none", config=QUIET, invite=relay.invite()),
        partial(office.node, mesh="none", config=QUIET, invite=relay.invite()),
    )
    until(lambda: asker.models() == {MODEL}, "the model behind the NAT is listed")
    assert {"name": server.name, "state": "relay", "via": relay.name}.items() <= peer(asker, server).items()
    assert state(relay, server) == "direct"
    assert peer(asker, server)["addresses"] == []
    assert asker.ask(MODEL) == ("t0 t1 t2 t3 ", "office > public > homely")
    assert relay.ask(MODEL)[1] == "public > homely"
    assert server.ask(MODEL)[1] == "homely"


def test_a_direct_link_replaces_the_relay_as_soon_as_one_side_can_dial(lab: Lab) -> None:
    """The two know each other by gossip alone. Only the one behind the NAT can ever dial the other, and at first its
    router knows no way there."""
    wan, public, far = lab.segment("wan"), lab.host("public"), lab.host("far")
    public.plug(wan, "203.0.113.1/24")
    far.plug(wan, "203.0.113.4/24")
    homely, router = behind_nat(lab, "homely", wan, "203.0.113.2/24", 1)
    router.route("203.0.113.4", "prohibit")
    relay = public.node(config=QUIET)
    engine = far.engine()
    server, asker = together(
        partial(far.node, "--engine-url", engine.url, config=QUIET, invite=relay.invite()),
        partial(homely.node, config=QUIET, invite=relay.invite()),
    )
    until(lambda: asker.models() == {MODEL}, "the model is listed")
    for one, other in ((asker, server), (server, asker)):
        until(lambda one=one, other=other: state(one, other) == "relay", f"{one.name} reaches {other.name}")
    assert asker.ask(MODEL)[1] == "homely > public > far"
    router.ip("route", "delete", "203.0.113.4")
    linked(asker, server)
    assert asker.ask(MODEL)[1] == "homely > far"


# Cuts and moves


def test_who_is_cut_off_is_gone_and_comes_back(lab: Lab) -> None:
    """While one of two servers is cut off the other answers; while both are, requests are refused in words."""
    lan, hosts = lab.segment("lan"), [lab.host(name) for name in ("antonia", "bertram", "cleopatra")]
    cables = [host.plug(lan, address) for host, address in zip(hosts, NETS["IPv4"], strict=True)]
    antonia = hosts[0].node(config=QUIET)
    bertram, cleopatra = together(
        *(
            partial(host.node, "--engine-url", host.engine().url, config=QUIET, invite=antonia.invite())
            for host in hosts[1:]
        )
    )
    linked(antonia, bertram, cleopatra)
    until(lambda: servers(antonia) == {"bertram", "cleopatra"}, "antonia knows both servers")
    cables[1].cut()
    answered = [antonia.ask(MODEL)[1] for _ in range(3)]
    until(lambda: state(antonia, bertram) == "gone", "bertram is gone for antonia")
    until(lambda: state(cleopatra, bertram) == "gone", "bertram is gone for cleopatra")
    assert [*answered, antonia.ask(MODEL)[1]] == ["antonia > cleopatra"] * 4
    cables[2].cut()
    until(lambda: state(antonia, cleopatra) == "gone", "cleopatra is gone for antonia")
    with pytest.raises(openai.APIStatusError) as refused:
        antonia.ask(MODEL)
    assert refused.value.status_code in (404, 503)
    assert MODEL in refused.value.message
    cables[1].restore()
    cables[2].restore()
    linked(antonia, bertram, cleopatra)
    until(lambda: servers(antonia) == {"bertram", "cleopatra"}, "antonia knows both servers again")
    assert antonia.ask(f"{MODEL}@bertram")[1] == "antonia > bertram"
    assert antonia.ask(f"{MODEL}@cleopatra")[1] == "antonia > cleopatra"


def test_a_node_that_was_renumbered_is_found_again(lab: Lab) -> None:
    """Neither was started again, no address was given, and the old one is advertised no more."""
    lan, host, moving = lab.segment("lan"), lab.host("antonia"), lab.host("bertram")
    host.plug(lan, "10.77.0.1/24")
    cable = moving.plug(lan, "10.77.0.2/24")
    antonia = host.node(config=QUIET)
    bertram = moving.node("--engine-url", moving.engine().url, config=QUIET, invite=antonia.invite())
    linked(antonia, bertram)
    assert peer(antonia, bertram)["addresses"] == ["10.77.0.2:6375"]
    cable.address("10.77.0.22/24")
    until(lambda: peer(antonia, bertram)["addresses"] == ["10.77.0.22:6375"], "antonia has heard of the new address")
    linked(antonia, bertram)
    assert antonia.ask(MODEL)[1] == "antonia > bertram"


def test_a_whole_segment_that_was_renumbered_finds_itself_again(lab: Lab) -> None:
    """Nobody is where anybody remembers: what is left is multicast."""
    _, antonia, bertram = pair(lab, "IPv4", BY_MULTICAST)
    bertram.start()
    linked(antonia, bertram)
    for node, address in ((antonia, "172.20.0.1"), (bertram, "172.20.0.2")):
        node.host.cables[0].address(f"{address}/24")
    for node, other, address in ((antonia, bertram, "172.20.0.2"), (bertram, antonia, "172.20.0.1")):
        told = [f"{address}:6375"]
        until(lambda n=node, o=other, told=told: peer(n, o)["addresses"] == told, f"{node.name} knows {address}")
    linked(antonia, bertram)


# Addresses


def test_ipv6_alone_is_enough(lab: Lab) -> None:
    """The invite names `[v6]:port`, the link follows it, and a peer can be named so."""
    _, antonia, bertram = pair(lab, "IPv6", QUIET)
    assert antonia.status()["mesh"]["addresses"] == ["[fd77::1]:6375"]
    bertram.start()
    linked(antonia, bertram)
    bertram.kill()
    (bertram.home / "addresses.cbor").unlink()
    (bertram.home / "config.toml").write_text(QUIET + 'peers = ["[fd77::1]:6375"]\ndial_learned = false\n')
    bertram.start()
    linked(antonia, bertram)


def test_a_container_bridge_is_not_advertised(lab: Lab) -> None:
    """With a container plugged in, so that the bridge is up."""
    lan, host, container = lab.segment("lan"), lab.host("antonia"), lab.host("container")
    host.plug(lan, "10.77.0.1/24", "fd77::1/64")
    host.ip("link", "add", "docker0", "up", "type", "bridge")
    host.ip("address", "add", "172.17.0.1/16", "dev", "docker0")
    host.ip("link", "add", "veth1f2e", "type", "veth", "peer", "name", "eth0", "netns", container.namespace)
    host.ip("link", "set", "veth1f2e", "master", "docker0", "up")
    container.ip("link", "set", "eth0", "up")
    container.ip("address", "add", "172.17.0.2/16", "dev", "eth0")
    until(lambda: "LOWER_UP" in host.ip("link", "show", "dev", "docker0"), "docker0 is up")
    antonia = host.node(config=QUIET)
    assert sorted(antonia.status()["mesh"]["addresses"]) == ["10.77.0.1:6375", "[fd77::1]:6375"]


# The lab itself


FORSAKEN = """
import os
from pathlib import Path
from subprocess import DEVNULL, Popen
from tests.real.lab import Lab
lab = Lab(Path()).__enter__()
host = lab.host("forsaken")
host.plug(lab.segment("lan"), "10.77.0.1/24")
process = host.inside(Popen, ["sleep", "1000"], stdout=DEVNULL, stderr=DEVNULL)
print(host.namespace, process.pid, flush=True)
os._exit(0)
"""


def test_what_a_killed_test_left_is_removed_by_the_next(lab: Lab, tmp_path: Path) -> None:
    namespace, pid = run(sys.executable, "-c", FORSAKEN).split()
    assert namespace in ip("netns", "list")
    assert exists(int(pid))
    with Lab(tmp_path):
        assert namespace not in ip("netns", "list")
        until(lambda: not exists(int(pid)), "what ran there has ended")


def test_the_machine_s_own_network_is_left_alone(lab: Lab, tmp_path: Path) -> None:
    def own() -> tuple[str, ...]:
        return ip("-oneline", "link"), ip("route"), ip("-6", "route"), Path("/proc/sys/net/ipv4/ip_forward").read_text()

    before = own()
    with Lab(tmp_path) as other:
        host, _ = behind_nat(other, "inner", other.segment("outer"), "203.0.113.2/24", 1)
        assert "192.168.1.2" in host.ip("address")
        assert own() == before
    assert own() == before
    assert "inner" not in ip("netns", "list")
