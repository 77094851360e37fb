"""Who may ask a node, and within which bounds."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

KEYRING = ("tests/front/test_keyring.py",)

MUTANTS = (
    Mutant(
        rule="once there is a key, nobody is answered without one",
        file="front/keyring.py",
        text="return self._known(headers, scope) if self._required or len(self._ring) else OPEN",
        instead="return self._known(headers, scope) if self._required else OPEN",
        tests=KEYRING,
    ),
    Mutant(
        rule="a key is for its scopes only",
        file="front/keyring.py",
        text="if scope not in caller.scopes:",
        instead="if False:",
        tests=KEYRING,
    ),
    Mutant(
        rule="pages of the mesh need the scope admin",
        file="front/keyring.py",
        text='Scope.INFER if path.startswith("/v1/") else Scope.ADMIN',
        instead="Scope.INFER",
        tests=KEYRING,
    ),
    Mutant(
        rule="a key that was revoked opens nothing",
        file="access/ring.py",
        text="for one in self.records if one.revoked_at is None",
        instead="for one in self.records",
        tests=("tests/access/test_ring.py",),
    ),
    Mutant(
        rule="a key ends when it was said to",
        file="access/ring.py",
        text="return caller if record.not_after is None or now < record.not_after else None",
        instead="return caller",
        tests=("tests/access/test_ring.py",),
    ),
    Mutant(
        rule="a key's label holds where the request asks for a weaker one",
        file="access/caller.py",
        text="return stricter(asked, self.label)",
        instead="return asked",
        tests=("tests/access/test_caller.py",),
    ),
    Mutant(
        rule="no header lifts a request above its key's tier",
        file="access/caller.py",
        text="max(self.priority, asked)",
        instead="asked",
        tests=("tests/access/test_caller.py",),
    ),
    Mutant(
        rule="a key asks for its models only",
        file="front/handlers.py",
        text="if not caller.may_ask(facts.model):",
        instead="if False:",
        tests=KEYRING,
    ),
    Mutant(
        rule="keys share no answers",
        file="front/wishes.py",
        text="tenant=caller.key or _tenant(headers),",
        instead='tenant="",',
        tests=KEYRING,
    ),
    Mutant(
        rule="an address beyond loopback is not listened on without keys",
        file="front/server.py",
        text="if not keyed and not section.require_key:",
        instead="if False:",
        tests=("tests/front/test_server.py",),
    ),
    Mutant(
        rule="beyond loopback the last key that is forgotten opens no door",
        file="node.py",
        text="required=config.front.require_key or front.beyond_loopback(api),",
        instead="required=config.front.require_key,",
        tests=("tests/world/test_api_keys.py",),
    ),
    Mutant(
        rule="one client takes no idempotency keys from all others",
        file="dispatch/keys.py",
        text="if known is not None and known.keys >= free:",
        instead="if False:",
        tests=("tests/dispatch/test_keys.py",),
    ),
)
