"""The process and others beside it: how it ends when told from outside, and how its workers start and send.

Imports errors only.
"""

from datamodules.processes.ending import END, Ended
from datamodules.processes.loader import WorkerLoader

__all__ = ["END", "Ended", "WorkerLoader"]
