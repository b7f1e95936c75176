"""The run as a whole: its folder and settings, and what its processes do when one of them dies.

Imports `callbacks.rounds` and `callbacks.pictures`.
"""

from callbacks.runs.folder import RunFolder
from callbacks.runs.logger import RunLogger, claim_run
from callbacks.runs.outside_end import OutsideEnd
from callbacks.runs.process_watch import ProcessWatch
from callbacks.runs.settings import RunSettings

__all__ = ["OutsideEnd", "ProcessWatch", "RunFolder", "RunLogger", "RunSettings", "claim_run"]
