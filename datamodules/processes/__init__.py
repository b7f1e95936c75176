"""The process and others beside it: how it ends when told from outside, and what its workers do then.

Imports nothing of ours.
"""

from datamodules.processes.ending import END, Ended
from datamodules.processes.workers import leave_signals

__all__ = ["END", "Ended", "leave_signals"]
