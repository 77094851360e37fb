"""The checks of `doctor` about reaching and being reached: addresses, multicast, peers dialling back, clocks. Pure.

Any one direction of one pair of addresses carries a link, so an address that somebody cannot dial is no fault yet.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from meshnode.cli import say, words
from meshnode.cli.doctor.facts import DialledBack, Facts
from meshnode.cli.doctor.findings import Check, Finding, Result

SKEW_WARN_S, SKEW_FAIL_S = 30.0, 300.0
"""Certificates are back-dated by 300 s (identity.certificates): with more skew a fresh one is refused."""


def addresses(facts: Facts) -> Iterator[Finding]:
    """Where others are told to dial, and what they are not told."""
    network = facts.network
    if not network.listens:
        yield Finding("addresses", Result.PASS, "none: this node dials out only (--mesh none)")
        return
    homes = {host: wire for wire in network.wires for host in wire.hosts}
    told = [f"{a} ({homes[_host(a)].name})" if _host(a) in homes else a for a in network.advertised]
    if not network.advertised:
        yield Finding(
            "addresses", Result.WARN, "no interface has an address that others could dial",
            "connect this machine to a network, or name an address with mesh.advertise in config.toml",
        )  # fmt: skip
    elif all(_is_loopback(address) for address in network.advertised):
        yield Finding(
            "addresses", Result.WARN, f"{', '.join(network.advertised)}: nobody but this machine reaches that",
            say.command("up", "--mesh", f":{network.advertised[0].rpartition(':')[2]}", home=facts.home),
        )  # fmt: skip
    else:
        yield Finding("addresses", Result.PASS, f"advertised: {', '.join(told)}")
    for wire in network.wires:
        if wire.unadvertised and wire.hosts and wire.kind != "loopback":
            seen = f"{wire.name} ({', '.join(wire.hosts)}) is not advertised: {wire.unadvertised}"
            yield Finding("addresses", Result.PASS, seen)
    if network.confined:
        yield _confinement(facts)


def _confinement(facts: Facts) -> Finding:
    if facts.asked is not None and any(
        one.ok and one.address and not _is_loopback(one.address) for one in facts.asked.dialled_back
    ):
        return Finding("surroundings", Result.PASS, "in a container or WSL, and peers can dial this node all the same")
    what, _, fix = facts.network.confined.partition(": ")
    return Finding("surroundings", Result.WARN, f"in a container or WSL: {what}", fix)


def multicast(facts: Facts) -> Iterator[Finding]:
    """Whether nodes of the LAN can be found without being named."""
    network = facts.network
    if not network.mdns:
        yield Finding("multicast", Result.PASS, "off (mesh.mdns): nodes are found by invites and by --peer")
        return
    spoken = [wire for wire in network.wires if not wire.unspoken]
    for wire in spoken:
        if wire.group:
            yield Finding(
                f"multicast {wire.name}", Result.WARN, f"224.0.0.251 cannot be joined there: {wire.group}",
                f"name a peer: {say.command('up', '--peer', 'HOST:PORT', home=facts.home)}",
            )  # fmt: skip
        else:
            yield Finding(f"multicast {wire.name}", Result.PASS, "it can multicast, and 224.0.0.251 was joined")
    for wire in network.wires:
        if wire.unspoken and not wire.unadvertised:
            yield Finding(f"multicast {wire.name}", Result.PASS, f"not spoken: {wire.unspoken}")
    if not spoken:
        yield Finding(
            "multicast", Result.WARN, "spoken on no interface: nodes are not found by themselves",
            f"name a peer: {say.command('up', '--peer', 'HOST:PORT', home=facts.home)}",
        )  # fmt: skip


def dialled(facts: Facts) -> Iterator[Finding]:
    """Which peer reaches which address."""
    if facts.running is None:
        return
    if facts.asked is None or not facts.network.listens:
        if facts.asked is None:
            yield Finding(
                "dial back", Result.WARN, f"the peers could not be asked: {facts.asked_fault}",
                "is the running node another version? Restart it",
            )  # fmt: skip
        return
    trials = [one for one in facts.asked.dialled_back if one.address]
    silent = [one for one in facts.asked.dialled_back if not one.address and not one.ok]
    if not facts.asked.peers:
        yield Finding(
            "dial back", Result.WARN, "no peer to ask: whether others can dial this node is not known",
            f"add a machine ({say.command('invite', home=facts.home)}), and look again",
        )  # fmt: skip
    for one in silent:
        yield Finding(
            "dial back", Result.WARN, f"{one.peer} could not be asked: {one.detail}", "wait ten seconds and look again"
        )
    yield from (_address(address, trials) for address in dict.fromkeys(one.address for one in trials))
    yield from _nobody(facts, trials)


def _address(address: str, trials: list[DialledBack]) -> Finding:
    tried = [one for one in trials if one.address == address]
    reached = [one.peer for one in tried if one.ok]
    missed = [f"{one.peer} ({one.detail})" for one in tried if not one.ok]
    name = f"dial back {address}"
    if reached:
        lacking = f"; not by {words.listed(missed, most=4)}" if missed else ""
        return Finding(name, Result.PASS, f"reached by {words.listed(reached, most=8)}{lacking}")
    return Finding(
        name, Result.WARN, f"not reached by {words.listed(missed, most=4)}",
        "if others should reach it, open the port in the firewall; else set mesh.advertise without it",
    )  # fmt: skip


def _nobody(facts: Facts, trials: list[DialledBack]) -> Iterator[Finding]:
    """Who reaches this node nowhere."""
    port = next((one.address.rpartition(":")[2] for one in trials), "")
    fix = f"allow TCP port {port} into this machine (firewall, router); if it shall dial out only: --mesh none"
    lost = sorted({one.peer for one in trials} - {one.peer for one in trials if one.ok})
    if trials and not any(one.ok for one in trials):
        yield Finding("dial back", Result.FAIL, "no peer can dial this node: its links stand while it dials them", fix)
    elif lost:
        detail = f"{words.listed(lost, most=8)} cannot dial this node: the link stands while this end dials it"
        yield Finding("dial back", Result.WARN, detail, fix)


def clock(facts: Facts) -> Iterator[Finding]:
    """How far the clocks of peers are from this one."""
    skews = {
        one.peer: one.clock_skew_s
        for one in (facts.asked.dialled_back if facts.asked is not None else ())
        if one.clock_skew_s is not None
    }
    if not skews:
        return
    peer, skew_s = max(skews.items(), key=lambda item: abs(item[1]))
    off = sum(abs(skew) > SKEW_WARN_S for skew in skews.values())
    seen = f"the clock of {peer} is {abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} this one"
    whose = "this machine's clock" if off > len(skews) / 2 > 0.5 else f"the clock of {peer}, or this machine's,"
    fix = f"set {whose} by the network: timedatectl set-ntp true"
    if abs(skew_s) > SKEW_FAIL_S:
        yield Finding("clock", Result.FAIL, f"{seen}: certificates are refused beyond {SKEW_FAIL_S:.0f} s", fix)
    elif abs(skew_s) > SKEW_WARN_S:
        yield Finding("clock", Result.WARN, f"{seen}; beyond {SKEW_FAIL_S:.0f} s certificates are refused", fix)
    else:
        yield Finding("clock", Result.PASS, f"{len(skews)} compared; {seen}")


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(_host(address)).is_loopback
    except ValueError:
        return _host(address) == "localhost"


REACH: tuple[Check, ...] = (addresses, multicast, dialled, clock)
