"""On whose account a job is: its origin's owner where a certificate and a proof stand behind it, else its sender's."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.model.ids import NodeId
from meshnode.model.job import Facts, Job
from meshnode.slots.owners import account_of, machine_account

NODES = [NodeId(bytes([number]) * 32) for number in range(4)]
OWNERS = ("", "ann", "bob")

jobs = st.builds(
    lambda origin, further, owner, proven: Job(
        "j", "/v1/chat/completions", b"", Facts("m"), origin, 0.0,
        path=(origin, *further) if further is not None else (), owner=owner, proven=proven,
    ),
    st.sampled_from(NODES), st.one_of(st.none(), st.lists(st.sampled_from(NODES), max_size=2)),
    st.sampled_from(OWNERS), st.booleans(),
)  # fmt: skip
certified = st.lists(st.sampled_from(OWNERS), min_size=len(NODES), max_size=len(NODES))


def test_a_relay_that_writes_a_name_gains_nothing_by_it() -> None:
    origin, relay = NODES[:2]
    brought = Job("j", "/v1/chat/completions", b"", Facts("m"), origin, 0.0, path=(origin, relay), owner="ann")
    assert account_of(brought, "ann", lambda node: "ann" if node == origin else "") == f"node:{relay.text}"
    proven = dataclasses.replace(brought, proven=True)
    assert account_of(proven, "ann", lambda node: "ann" if node == origin else "") == "owner:ann"
    assert account_of(proven, "ann", lambda node: "ann" if node == relay else "") == f"node:{relay.text}"


@given(jobs, certified, st.sampled_from(OWNERS))
@settings(deadline=None)
def test_nobody_is_an_owner_without_a_certificate_and_a_proof(job: Job, names: list[str], here: str) -> None:
    def vouched(node: NodeId) -> str:
        return names[NODES.index(node)]

    account = account_of(job, here, vouched)
    if not job.path:
        assert account == machine_account(job.owner or here, job.origin)
        return
    sender = job.path[-1]
    direct = sender == job.origin
    if job.owner and vouched(job.origin) == job.owner and (direct or job.proven):
        assert account == f"owner:{job.owner}"
    else:
        assert account == f"node:{sender.text}"
