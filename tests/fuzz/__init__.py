"""Every decoder against bytes that nobody meant: one small target each, fuzzed by `make fuzz`, replayed by pytest."""
