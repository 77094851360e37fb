"""meshnode: a peer-to-peer mesh of LLM inference nodes with no hub."""
