"""What this machine's interfaces are, and why some are not told or not spoken on."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from meshnode.mesh.interfaces import Facts, Interface, confined, interfaces, read_facts, survey


def entry(address: str) -> SimpleNamespace:
    """As psutil has it: the netmask apart, of IPv6 too, and a zone on link-local addresses."""
    host, _, bits = address.partition("/")
    zoneless = host.partition("%")[0]
    network = ipaddress.ip_network(f"{zoneless}/{bits or 24}", strict=False)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return SimpleNamespace(family=family, address=host, netmask=str(network.netmask))


HARDWARE = SimpleNamespace(family=17, address="00:00:5e:00:53:01", netmask=None)


def machine(interfaces: dict[str, list[str]], facts: Facts | None = None, **flags: str) -> dict[str, Interface]:
    entries = {name: [HARDWARE, *map(entry, addresses)] for name, addresses in interfaces.items()}
    stats = {
        name: SimpleNamespace(isup="up" in said, flags=said)
        for name in interfaces
        for said in [flags.get(name, "up,broadcast,running,multicast")]
    }
    return {interface.name: interface for interface in survey(entries, stats, facts or Facts())}


@pytest.mark.parametrize(
    ("name", "addresses", "kind"),
    [
        ("eth0", ["192.168.1.5/24", "2001:db8::5/64", "fe80::1%eth0/64"], "lan"),
        ("wlan0", ["10.0.0.7/8"], "lan"),
        ("enp3s0", ["172.31.0.7/16"], "lan"),
        ("enp4s0", ["fd12::7/64", "fe80::1%enp4s0/64"], "lan"),
        ("ens3", ["203.0.113.9/24"], "public"),
        ("ens4", ["192.168.1.5/24", "203.0.113.9/24"], "public"),
        ("ens5", ["2001:db8::5/64"], "public"),
        ("modem", ["100.64.3.4/10"], "public"),
        ("tailscale0", ["100.101.1.2/32", "fd7a:115c:a1e0::1/48"], "tunnel"),
        ("ztabcdef12", ["10.147.17.5/24"], "tunnel"),
        ("wg0", ["10.9.0.2/24"], "tunnel"),
        ("docker0", ["172.17.0.1/16"], "bridge"),
        ("br-1f2e3d4c5b6a", ["172.18.0.1/16"], "bridge"),
        ("veth1a2b3c4", ["fe80::2%veth1a2b3c4/64"], "bridge"),
        ("virbr0", ["192.168.122.1/24"], "bridge"),
        ("cni0", ["10.42.0.1/24"], "bridge"),
        ("eth1", ["169.254.3.4/16"], "link-local"),
        ("awdl0", ["fe80::9%awdl0/64"], "link-local"),
        ("lo", ["127.0.0.1/8", "::1/128"], "loopback"),
        ("lo0", ["127.0.0.1/8", "fe80::1%lo0/64", "::1/128"], "loopback"),
        ("eth2", [], "empty"),
    ],
)
def test_an_interface_is_known_by_its_name_and_addresses(name: str, addresses: list[str], kind: str) -> None:
    said = {"lo0": "up,loopback,running,multicast"}
    assert machine({name: addresses}, **said)[name].kind == kind


def test_only_lan_tunnel_and_public_addresses_are_told_and_multicast_is_for_the_lan() -> None:
    found = machine(
        {"eth0": ["192.168.1.5/24"], "wg0": ["10.9.0.2/24"], "ens3": ["203.0.113.9/24"], "docker0": ["172.17.0.1/16"]}
    )
    assert [name for name, interface in found.items() if not interface.unadvertised] == ["eth0", "wg0", "ens3"]
    assert [name for name, interface in found.items() if not interface.unspoken()] == ["eth0"]
    assert "containers" in found["docker0"].unspoken()
    assert "--peer" in found["wg0"].unspoken()
    assert "strangers" in found["ens3"].unspoken()


def test_who_names_interfaces_has_those_and_no_others_whatever_they_are_but_none_that_is_down() -> None:
    found = machine(
        {"eth0": ["192.168.1.5/24"], "ens3": ["203.0.113.9/24"], "eth1": ["10.0.0.1/8"]}, eth1="broadcast,multicast"
    )
    chosen = ("ens3", "eth1")
    assert found["ens3"].unspoken(chosen) == ""
    assert "mesh.mdns_interfaces" in found["eth0"].unspoken(chosen)
    assert found["eth1"].unspoken(chosen) == "it is down"


def test_what_is_down_cannot_multicast_or_leads_to_one_other_end_is_not_spoken_on() -> None:
    found = machine(
        {"eth0": ["192.168.1.5/24"], "eth1": ["192.168.2.5/24"], "cell": ["10.64.1.2/32"]},
        eth0="broadcast,multicast",
        eth1="up,broadcast,running",
        cell="up,pointopoint,running,multicast",
    )
    assert found["eth0"].unadvertised == "it is down"
    assert found["eth1"].unspoken() == "it cannot multicast"
    assert found["cell"].kind == "tunnel"


def test_addresses_have_their_networks_and_come_ipv4_first_then_private_ipv6_without_what_passes() -> None:
    told = ["2001:db8::5/64", "fd12::7/64", "2001:db8::bad/64", "fe80::1%eth0/64", "192.168.1.5/20"]
    found = machine({"eth0": told}, Facts(fleeting=frozenset({"2001:db8::bad"})))["eth0"]
    assert [str(address) for address in found.addresses] == ["192.168.1.5/20", "fd12::7/64", "2001:db8::5/64"]


def test_an_address_that_cannot_be_read_is_left_out_and_a_missing_netmask_is_no_fault() -> None:
    broken = SimpleNamespace(family=socket.AF_INET, address="?", netmask=None)
    bare = SimpleNamespace(family=socket.AF_INET6, address="fd12::7", netmask=None)
    lone = SimpleNamespace(family=socket.AF_INET, address="10.0.0.1", netmask=None)
    stats = {"eth0": SimpleNamespace(isup=True)}
    (found,) = survey({"eth0": [broken, bare, lone]}, stats, Facts())
    assert [str(address) for address in found.addresses] == ["10.0.0.1/32", "fd12::7/64"]
    assert found.multicast


def test_a_bridge_that_has_a_real_wire_is_the_lan_whatever_its_name(tmp_path: Path) -> None:
    net = tmp_path / "sys/class/net"
    for bridge, port in (("br-lan", "eth0"), ("vmbr0", "bond0"), ("br0", "veth7")):
        (net / bridge / "bridge").mkdir(parents=True)
        (net / bridge / "brif" / port).mkdir(parents=True)
        (net / port).mkdir()
    (net / "eth0/device").mkdir()
    (net / "bond0/lower_eth1").mkdir()
    facts = read_facts(["br-lan", "vmbr0", "br0", "eth0"], tmp_path)
    found = machine({name: ["192.168.1.5/24"] for name in ("br-lan", "vmbr0", "br0")}, facts)
    assert {name: interface.kind for name, interface in found.items()} == {
        "br-lan": "lan",
        "vmbr0": "lan",
        "br0": "bridge",
    }


def test_linux_tells_which_ipv6_addresses_pass(tmp_path: Path) -> None:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/if_inet6").write_text(
        "20010db8000000000000000000000005 02 40 00 80 eth0\n"
        "20010db8000000000000000000000bad 02 40 00 01 eth0\n"
        "20010db8000000000000000000000dea 02 40 00 20 eth0\n"
        "\n"
    )
    assert read_facts([], tmp_path).fleeting == {"2001:db8::bad", "2001:db8::dea"}
    assert read_facts([], tmp_path / "elsewhere") == Facts()


def test_containers_and_wsl_are_known(tmp_path: Path) -> None:
    kernel = tmp_path / "proc/sys/kernel"
    kernel.mkdir(parents=True)
    (kernel / "osrelease").write_text("6.1.0-13-amd64\n")
    assert confined(tmp_path, {}) is None
    (kernel / "osrelease").write_text("5.15.153.1-microsoft-standard-WSL2\n")
    wsl = confined(tmp_path, {})
    assert wsl is not None
    assert wsl.word == "wsl"
    (tmp_path / ".dockerenv").touch()
    container = confined(tmp_path, {})
    assert container is not None
    assert container.word == "container"
    assert confined(tmp_path / "elsewhere", {"container": "podman"}) == container


def test_a_system_that_does_not_let_interfaces_be_seen_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(psutil, "net_if_addrs", refuse)
    assert interfaces() == ()
