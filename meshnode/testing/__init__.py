"""Public: what this project tests itself with, shipped so that programs that embed a node can test themselves too.

Not imported by a running node. Counterpart: your tests.
"""

from meshnode.testing.fake_engine import Behaviour, FakeEngine, Record

__all__ = ["Behaviour", "FakeEngine", "Record"]
