"""Versions of a clean source as people meet them: one simulator at a random strength, or a chain of them.

Imports only distortions, codecs and what lies below them.
"""

from datamodules.circuits.circuit import Circuits
from datamodules.circuits.drawing import drawn_circuits

__all__ = ["Circuits", "drawn_circuits"]
