"""`python -m benchmarks`: measures meshnode against its engine asked directly and, on request, against LiteLLM.

Figures only: what must be right is in tests/. The fake engine and the load generator are C (native/), so that
what is measured is the node between them.
"""
