"""Who gets a slot of an engine, and when: admission at the serving node.

Pure. Not for choosing servers (routing) nor for running engines (engine). requests.md §2.
"""

from meshnode.slots.admission import Admission
from meshnode.slots.admission_events import Ask, Granted, Leave, Load, Refused, Resident, Resize, Terms, Waiting

__all__ = ["Admission", "Ask", "Granted", "Leave", "Load", "Refused", "Resident", "Resize", "Terms", "Waiting"]
