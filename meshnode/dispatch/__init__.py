"""Takes a job to whoever answers it: this node's engines, a peer, or a peer's peer. Joins routing, mesh and engine.

Not for HTTP (front) nor for choosing (routing). Counterpart at the far end: inbound.py of the serving node.
"""
