"""What this machine tells others of where it is."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import psutil
import pytest

from meshnode.mesh import addresses


@pytest.fixture
def interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(address: str) -> SimpleNamespace:
        return SimpleNamespace(family=socket.AF_INET6 if ":" in address else socket.AF_INET, address=address)

    found = {
        "lo": ["127.0.0.1", "::1"],
        "eth0": ["192.168.1.5", "fe80::1%eth0", "2001:db8::5"],
        "docker0": ["172.17.0.1"],
        "br-12ab": ["172.18.0.1"],
        "wlan0": ["10.0.0.7"],
        "eth1": ["169.254.3.4"],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {k: [entry(a) for a in v] for k, v in found.items()})
    monkeypatch.setattr(psutil, "net_if_stats", lambda: {k: SimpleNamespace(isup=k != "wlan0") for k in found})


@pytest.mark.usefixtures("interfaces")
def test_a_bind_address_is_never_advertised_nor_bridges_loopback_link_local_or_what_is_down() -> None:
    assert addresses.reachable("0.0.0.0", 6375) == ("192.168.1.5:6375",)
    assert addresses.reachable("::", 6375) == ("192.168.1.5:6375", "[2001:db8::5]:6375")


def test_an_address_that_was_chosen_is_the_one_that_is_told() -> None:
    assert addresses.reachable("127.0.0.1", 7000) == ("127.0.0.1:7000",)
    assert addresses.reachable("::1", 7000) == ("[::1]:7000",)


def test_nodes_of_one_mesh_on_one_machine_share_a_tag_that_other_meshes_do_not() -> None:
    assert addresses.host_tag(b"a" * 32) == addresses.host_tag(b"a" * 32)
    assert addresses.host_tag(b"a" * 32) != addresses.host_tag(b"b" * 32)
    assert len(addresses.host_tag(b"a" * 32)) == 8


def test_a_name_is_what_was_configured_or_the_hosts() -> None:
    assert addresses.own_name("studio") == "studio"
    assert addresses.own_name("") == socket.gethostname()
