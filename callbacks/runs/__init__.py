"""The run as a whole: its folder and settings, and what its processes do when one of them dies.

Imports `callbacks.rounds` and `callbacks.pictures`.
"""

from callbacks.runs.folder import RunFolder
from callbacks.runs.process_watch import ProcessWatch
from callbacks.runs.settings import RunSettings

__all__ = ["ProcessWatch", "RunFolder", "RunSettings"]
