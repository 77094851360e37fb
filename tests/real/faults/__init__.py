"""A mesh of real processes under seeded faults: what is asked and broken (plan), where (lab, roads, engine), by whom
(client), and whether what users were promised held (judge). `python -m tests.real.faults` prints a report.
"""
