"""A mesh of up to 10,000 nodes in one heap loop: the real pure machines, a virtual network, seeded faults.

No trio, no sockets, no real time. `python -m tests.simulation --help` runs it; a seed decides everything.
"""
