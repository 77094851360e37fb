"""What this machine tells others of where it is."""

from __future__ import annotations

import socket
from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.mesh import addresses
from meshnode.mesh.interfaces import ORDER, Interface, Kind


def interface(name: str, kind: Kind, *told: str) -> Interface:
    return Interface(name, kind, tuple(ip_interface(address) for address in told))


MACHINE = (
    interface("eth0", "lan", "192.168.1.5/24", "fd12::5/64", "2001:db8::5/64"),
    interface("wg0", "tunnel", "10.9.0.2/24"),
    interface("ens3", "public", "203.0.113.9/24"),
    interface("docker0", "bridge", "172.17.0.1/16"),
    interface("lo", "loopback", "127.0.0.1/8", "::1/128"),
    interface("eth1", "down", "192.168.9.5/24"),
)


def test_a_bind_address_is_never_told_nor_bridges_loopback_or_what_is_down() -> None:
    v4 = ("192.168.1.5:6375", "10.9.0.2:6375", "203.0.113.9:6375")
    assert addresses.reachable("0.0.0.0", 6375, MACHINE) == v4
    both = ("192.168.1.5:6375", "[fd12::5]:6375", "[2001:db8::5]:6375", *v4[1:])
    assert addresses.reachable("::", 6375, MACHINE) == both
    assert addresses.reachable("", 6375, MACHINE) == both


def test_an_address_that_was_chosen_is_the_one_that_is_told() -> None:
    assert addresses.reachable("127.0.0.1", 7000, MACHINE) == ("127.0.0.1:7000",)
    assert addresses.reachable("::1", 7000, MACHINE) == ("[::1]:7000",)
    assert addresses.reachable("172.17.0.1", 7000, MACHINE) == ("172.17.0.1:7000",)


def test_a_machine_without_a_network_tells_its_own_nodes_where_it_is() -> None:
    assert addresses.reachable("", 7000, MACHINE[3:]) == ("127.0.0.1:7000",)


def test_this_machine_has_addresses_and_none_is_a_bind_address() -> None:
    told = addresses.reachable("", 7000)
    assert told
    assert not {"0.0.0.0:7000", "[::]:7000", ":7000"} & set(told)


@given(
    st.lists(
        st.tuples(st.sampled_from(ORDER), st.lists(st.ip_addresses(), max_size=8)),
        max_size=12,
    ),
    st.sampled_from(["", "::", "0.0.0.0"]),
)
def test_at_most_sixteen_are_told_each_once_and_no_interface_takes_all_places(
    found: list[tuple[Kind, list[object]]], bound: str
) -> None:
    made = [interface(f"if{n}", kind, *map(str, told)) for n, (kind, told) in enumerate(found)]
    told = addresses.reachable(bound, 7000, made)
    assert 1 <= len(told) <= addresses.MOST
    assert len(set(told)) == len(told)
    for one in made:
        mine = {addresses.join(str(address.ip), 7000) for address in one.addresses}
        others = {addresses.join(str(a.ip), 7000) for other in made if other is not one for a in other.addresses}
        assert len((mine - others) & set(told)) <= addresses.PER_INTERFACE
        if one.unadvertised:
            assert not (mine - others) & set(told) - {"127.0.0.1:7000"}


@pytest.mark.parametrize(
    ("hosts", "bound"),
    [
        (["0.0.0.0", "::"], ""),
        (["::", "0.0.0.0"], ""),
        (["0.0.0.0"], "0.0.0.0"),
        (["::"], "::"),
        (["127.0.0.1", "::1"], "127.0.0.1"),
    ],
)
def test_listeners_of_both_families_are_one_that_is_bound_to_everything(hosts: list[str], bound: str) -> None:
    assert addresses.bound_host(hosts) == bound


def test_nodes_of_one_mesh_on_one_machine_share_a_tag_that_other_meshes_do_not() -> None:
    assert addresses.host_tag(b"a" * 32) == addresses.host_tag(b"a" * 32)
    assert addresses.host_tag(b"a" * 32) != addresses.host_tag(b"b" * 32)
    assert len(addresses.host_tag(b"a" * 32)) == 8


def test_a_name_is_what_was_configured_or_the_hosts() -> None:
    assert addresses.own_name("studio") == "studio"
    assert addresses.own_name("") == socket.gethostname()
