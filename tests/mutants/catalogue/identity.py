"""Who is a member, and with what proof."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        rule="an owner claim counts only with its origin's signature",
        file="trust/claim.py",
        text="if not verified(expected.origin, CLAIM_CONTEXT + self.body, self.signature):",
        instead="if False:",
        tests=("tests/trust/test_claim.py", "tests/dispatch/test_claims.py"),
    ),
    Mutant(
        rule="an owner claim is for the bytes that it was made for",
        file="trust/claim.py",
        text='"server", "body", "tier")',
        instead='"server", "tier")',
        tests=("tests/dispatch/test_claims.py",),
    ),
    Mutant(
        rule="a relay does not lift a job above the tier that its owner asked for",
        file="trust/claim.py",
        text='"body", "tier")',
        instead='"body")',
        tests=("tests/trust/test_claim.py", "tests/dispatch/test_claims.py"),
    ),
    Mutant(
        rule="a relay gives no job more time than its origin did",
        file="trust/claim.py",
        text="if expected.remaining_ms > said.remaining_ms:",
        instead="if False:",
        tests=("tests/trust/test_claim.py", "tests/dispatch/test_claims.py"),
    ),
    Mutant(
        rule="an owner claim counts once",
        file="dispatch/claims.py",
        text="return self._used.first(expected, trio.current_time())",
        instead="return True",
        tests=("tests/dispatch/test_claims.py",),
    ),
    Mutant(
        rule="a claim that may have counted before a restart does not count after it",
        file="dispatch/claims.py",
        text="if made_at < self._since:",
        instead="if False:",
        tests=("tests/dispatch/test_claims.py",),
    ),
    Mutant(
        rule="a relay's word makes nobody an owner",
        file="slots/owners.py",
        text="known = sender == job.origin or job.proven",
        instead="known = True",
        tests=("tests/slots/test_owners.py",),
    ),
    Mutant(
        rule="a link certificate is signed by the node that it names",
        file="identity/credential.py",
        text="if not verify(link.id, LINK_CONTEXT, signed.body, signed.signature):",
        instead="if False:",
        tests=("tests/identity/test_credential.py",),
    ),
    Mutant(
        rule="a stolen certificate is nothing without its handshake key",
        file="identity/credential.py",
        text="if link.x25519 != remote_static:",
        instead="if False:",
        tests=("tests/identity/test_credential.py",),
    ),
    Mutant(
        rule="a certificate ends",
        file="identity/credential.py",
        text="if now > not_after:",
        instead="if False:",
        tests=("tests/identity/test_credential.py",),
    ),
    Mutant(
        rule="only the root makes those who may invite",
        file="identity/credential.py",
        text="if Role.INVITE in certificate.roles:",
        instead="if False:",
        tests=("tests/identity/test_credential.py",),
    ),
    Mutant(
        rule="a revoked node gets no link",
        file="identity/trust.py",
        text="if reason is not None:",
        instead="if False:",
        tests=("tests/identity/test_trust.py",),
    ),
    Mutant(
        rule="an invite is good for one machine",
        file="identity/invites.py",
        text="replace(record, used=True, used_by=presentable(by))",
        instead="replace(record, used_by=presentable(by))",
        tests=("tests/identity/test_invites.py",),
    ),
)
