"""The embedded corpus: procedural videos for runs without a user's clips, each of a hidden quality.

Imports only `datamodules.errors`, `datamodules.checks`, `datamodules.video` and `datamodules.fidelity`.
"""

from datamodules.procedural.corpus import REFERENCES, VERSION, read_truth, write_corpus
from datamodules.procedural.observers import MOS, write_mos

__all__ = ["MOS", "REFERENCES", "VERSION", "read_truth", "write_corpus", "write_mos"]
