"""The benchmark's arithmetic and programs are right; nothing here is timed."""
