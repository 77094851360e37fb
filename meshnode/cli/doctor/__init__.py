"""`doctor`: what keeps this node from being reached and used, one line a check, each with what mends it.

gather.py reads the machine and asks the running node, checks.py judges what was read without touching anything, show.py
writes it down. Not for repairing.
"""

from __future__ import annotations

from meshnode.cli import place


def examine(home: place.Place, as_json: bool) -> bool:
    """Gather, judge, show. Returns whether nothing failed."""
    from meshnode.cli.doctor.checks import judge
    from meshnode.cli.doctor.findings import sound
    from meshnode.cli.doctor.gather import gather
    from meshnode.cli.doctor.show import show

    facts = gather(home)
    findings = judge(facts)
    show(findings, running=facts.running is not None, as_json=as_json)
    return sound(findings)


__all__ = ["examine"]
