"""The embedded corpus: procedural videos for runs without a user's clips, each of a hidden quality.

Imports `datamodules.errors`, `checks`, `video` and `fidelity`.
"""

from datamodules.procedural.corpus import (
    REFERENCES,
    VERSION,
    CleanRender,
    read_references,
    read_truth,
    write_corpus,
)
from datamodules.procedural.observers import MOS, write_mos

__all__ = [
    "MOS",
    "REFERENCES",
    "VERSION",
    "CleanRender",
    "read_references",
    "read_truth",
    "write_corpus",
    "write_mos",
]
