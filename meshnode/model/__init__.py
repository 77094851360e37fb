"""Words every room shares: ids, adverts, jobs, answers, views, names, and the codec.

Pure. Not for decisions (rooms of rank 3) nor for anything that waits. Counterpart: every other room.
"""
