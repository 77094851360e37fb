"""The command line: one module per group of verbs, each imported only when its verb is called.

`app.py` declares verbs and options and imports nothing heavy, so that `meshnode --help` answers at once. Not for work:
a verb asks a running node over loopback (daemon.py) or starts one (up.py).
"""
