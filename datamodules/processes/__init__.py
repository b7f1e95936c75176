"""The process and those beside it: how it ends when told from outside, what workers do then, who may die.

Imports nothing of ours.
"""

from datamodules.processes.apart import apart
from datamodules.processes.ending import END, Ended
from datamodules.processes.workers import leave_signals

__all__ = ["END", "Ended", "apart", "leave_signals"]
