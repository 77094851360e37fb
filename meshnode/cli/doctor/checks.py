"""The judgements of `doctor`: each a function of the gathered facts, with what was seen and one way to mend it. Pure.

FAIL is what keeps this node from working, WARN what will or may, PASS everything else, as things are meant to be.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshnode.cli import say, words
from meshnode.cli.doctor.facts import Facts, File
from meshnode.cli.doctor.findings import Check, Finding, Result
from meshnode.cli.doctor.reach import REACH

LOW_BYTES, NONE_BYTES = 1 << 30, 64 << 20
"""A small model needs a gigabyte; below 64 MiB even state can soon not be written."""

KEPT_S = 7 * 86_400
"""A certificate of 30 days is renewed when 15 are left: with 7 left, nobody has renewed it."""

FIX_INVITE = "meshnode invite on a machine that may invite, then here: meshnode join TOKEN"


def judge(facts: Facts) -> list[Finding]:
    """Every check, in the order in which people look for a fault."""
    return [finding for check in (*LOCAL, *REACH, *REST) for finding in check(facts)]


def node(facts: Facts) -> Iterator[Finding]:
    """Whether there is a node to ask."""
    if facts.running is not None:
        one = facts.running.node
        yield Finding("node", Result.PASS, f"{one.name} ({one.short}) runs, meshnode {one.version}")
    else:
        yield Finding(
            "node", Result.WARN, "no node runs in this home: only what can be seen without one was checked",
            say.command("up", home=facts.home),
        )  # fmt: skip


def home(facts: Facts) -> Iterator[Finding]:
    """Whether the home can be used, and by this user alone."""
    kept = facts.storage
    if not kept.exists:
        yield Finding(
            "home", Result.WARN, f"{kept.path} is not there yet: the first start makes it",
            say.command("up", home=facts.home),
        )  # fmt: skip
    elif not kept.writable:
        yield Finding("home", Result.FAIL, f"{kept.path} cannot be written", f"chmod u+rwx {kept.path}")
    else:
        yield Finding("home", Result.PASS, f"{kept.path} can be written")


def files(facts: Facts) -> Iterator[Finding]:
    """Modes, owners and wholeness of what is secret."""
    kept = facts.storage
    if not kept.exists:
        return
    faults = [finding for file in kept.files if (finding := _file(file, file.path == kept.path)) is not None]
    told = {str(file.path) for file in kept.files if _file(file, file.path == kept.path) is not None}
    for message in kept.damage:
        if not any(path in message for path in told):
            faults.append(Finding("key files", Result.FAIL, message, "restore it from a copy of the home"))
    yield from faults
    if not faults:
        yield Finding("key files", Result.PASS, f"{len(kept.files)} files, whole and for this user alone")


def _file(file: File, is_directory: bool) -> Finding | None:
    if not file.ours:
        return Finding(
            "key files", Result.FAIL, f"{file.path} belongs to another user", f"sudo chown $USER {file.path}"
        )
    if not file.regular:
        detail = f"{file.path} is a link, or no file"
        return Finding("key files", Result.FAIL, detail, "put the file itself in its place")
    if file.mode & 0o077:
        wanted = "700" if is_directory else "600"
        detail = f"{file.path} is open to others (mode {file.mode:03o})"
        return Finding("key files", Result.FAIL, detail, f"chmod {wanted} {file.path}")
    return None


def disk(facts: Facts) -> Iterator[Finding]:
    """Room for state and models."""
    free = facts.storage.free_bytes
    if free is None:
        return
    seen = f"{words.size(free)} free at {facts.storage.path}"
    if free < NONE_BYTES:
        yield Finding("disk", Result.FAIL, f"{seen}: state can soon not be written", "free some space there")
    elif free < LOW_BYTES:
        yield Finding("disk", Result.WARN, f"{seen}: too little for a model", "free some space there")
    else:
        yield Finding("disk", Result.PASS, seen)


def config(facts: Facts) -> Iterator[Finding]:
    """Whether the configuration can be read."""
    for fault in facts.config_faults:
        yield Finding("config", Result.FAIL, fault, "correct that line; `meshnode up` says when it is right")
    if not facts.config_faults:
        yield Finding("config", Result.PASS, "every setting can be used")


def ports(facts: Facts) -> Iterator[Finding]:
    """Who listens where this node listens."""
    for port in facts.ports:
        if port.ours:
            yield Finding(port.name, Result.PASS, f"{port.address}: this node listens")
        elif facts.running is not None:
            held = f"{port.holder} listens there" if port.holder else "nobody listens there"
            yield Finding(
                port.name, Result.FAIL, f"{port.address}: the node says that it listens, but {held}",
                "stop this node and start it again",
            )  # fmt: skip
        elif port.holder:
            other = f"{port.address.rpartition(':')[0]}:0"
            yield Finding(
                port.name, Result.FAIL, f"{port.address} is held by {port.holder}",
                say.command("up", port.option, other, home=facts.home),
            )  # fmt: skip
        else:
            yield Finding(port.name, Result.PASS, f"{port.address} is free")


def membership(facts: Facts) -> Iterator[Finding]:
    """Whether the mesh believes this node, and until when."""
    papers = facts.papers
    mode = words.trust_mode(papers.trust)
    if papers.revoked:
        yield Finding(
            "membership", Result.FAIL, f'this node has been revoked from mesh "{papers.mesh}" ({papers.revoked})',
            words.REVOKED_FIX,
        )  # fmt: skip
    elif papers.trust == "psk-tofu":
        yield Finding("membership", Result.PASS, f"{mode}; there are no certificates")
    elif papers.until_s is None:
        yield Finding("membership", Result.PASS, "in no mesh yet: the first start founds a private one")
    elif papers.until_s <= 0:
        yield Finding(
            "membership", Result.FAIL, f"the certificate ended {words.age(-papers.until_s)} ago", FIX_INVITE
        )  # fmt: skip
    elif papers.until_s < KEPT_S and not papers.holds_root:
        yield Finding(
            "membership", Result.WARN,
            f"the certificate ends in {words.age(papers.until_s)}: no member that may renew it was linked",
            f"start a machine that may invite, or {FIX_INVITE}",
        )  # fmt: skip
    else:
        yield Finding("membership", Result.PASS, f"{mode}; the certificate is good for {words.age(papers.until_s)}")


def secret(facts: Facts) -> Iterator[Finding]:
    """The network secret."""
    papers = facts.papers
    if papers.trust == "psk-tofu":
        if papers.secret:
            yield Finding(
                "mesh secret", Result.FAIL, papers.secret,
                "on another machine: meshnode mesh secret; then here: "
                + say.command("mesh", "secret", "-", home=facts.home),
            )  # fmt: skip
        else:
            yield Finding("mesh secret", Result.PASS, "kept, and not mistyped")
    elif papers.generation is not None:
        yield Finding("mesh secret", Result.PASS, f"generation {papers.generation}")


def access(facts: Facts) -> Iterator[Finding]:
    """Whether an API key is needed, and whether anybody has one."""
    keys, add = facts.access, say.command("keys", "add", "--owner", "NAME", home=facts.home)
    if keys.good:
        where = f"; other machines reach {keys.beyond}, unencrypted" if keys.beyond else ""
        yield Finding("api keys", Result.PASS, f"{keys.good} good, and without one nobody is answered{where}")
    elif keys.ended or keys.required:
        detail = "a key is needed and none is good: nobody but this machine's `meshnode` is answered"
        yield Finding("api keys", Result.WARN, detail, add)
    elif keys.beyond:
        detail = f"none, and other machines would reach {keys.beyond}: a node does not start so"
        yield Finding("api keys", Result.FAIL, detail, add)
    else:
        yield Finding("api keys", Result.PASS, "none is needed: whoever uses this machine may ask")


OPEN_FIXES = {
    "ollama": "start it with OLLAMA_HOST=127.0.0.1",
    "lm-studio": "turn off 'Serve on Local Network' in LM Studio",
    "llama-server": "start it with --host 127.0.0.1",
    "vllm": "start it with --host 127.0.0.1",
}


def engines(facts: Facts) -> Iterator[Finding]:
    """Whether something can answer here, and that nobody else is let in to it."""
    if not facts.engines and facts.running is not None:
        yield Finding(
            "engines", Result.WARN, "none: this node only passes requests on to its peers",
            "start ollama or llama-server, or let the node run its own: meshnode up --engines embedded",
        )  # fmt: skip
    for one in facts.engines:
        where = f"{one.name} at {one.url}" if one.url and one.url not in one.name else one.name
        if one.state == "down":
            detail = f"{where} does not answer" + (f": {one.detail}" if one.detail else "")
            yield Finding("engine", Result.WARN, detail, "start it, or take it out of engine.urls")
        else:
            yield Finding("engine", Result.PASS, f"{where} is {one.state}")
        if one.open_to:
            yield Finding(
                "engine", Result.WARN, f"{where} listens on {one.open_to} without a key: any machine may use it",
                f"{OPEN_FIXES.get(one.kind, 'let it listen on 127.0.0.1')}: this node lets members of the mesh in",
            )  # fmt: skip


LOCAL: tuple[Check, ...] = (node, home, files, disk, config, ports)
REST: tuple[Check, ...] = (membership, secret, access, engines)
