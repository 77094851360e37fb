"""Who between may read a job, decided from the job and the configuration alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.dispatch.ways import seals
from meshnode.model.ids import NodeId
from meshnode.model.job import Facts, Job, Label, Privacy

USUAL = st.sampled_from([privacy.value for privacy in Privacy])


def job(label: Label, privacy: Privacy | None) -> Job:
    return Job("j", "/v1/chat/completions", b"", Facts("m"), NodeId(bytes(32)), 0.0, label=label, privacy=privacy)


@given(st.one_of(st.none(), st.sampled_from(Privacy)), USUAL)
def test_what_is_sensitive_is_sealed_whoever_says_otherwise(privacy: Privacy | None, usual: str) -> None:
    assert seals(job(Label.SENSITIVE, privacy), usual)


@given(st.sampled_from([Label.PUBLIC, Label.INTERNAL]), st.sampled_from(Privacy), USUAL)
def test_else_the_requests_word_goes_before_the_nodes(label: Label, privacy: Privacy, usual: str) -> None:
    assert seals(job(label, privacy), usual) is (privacy is Privacy.SEALED)
    assert seals(job(label, None), usual) is (usual == "sealed")
