"""The process and those beside it: how it ends when told from outside, how workers start, who may die.

Imports errors only.
"""

from datamodules.processes.apart import apart
from datamodules.processes.ending import END, Ended
from datamodules.processes.loader import WorkerLoader
from datamodules.processes.notes import read_by, reading

__all__ = ["END", "Ended", "WorkerLoader", "apart", "read_by", "reading"]
