"""The embedded corpus: procedural videos for runs without a user's clips, each of a hidden quality."""

from datamodules.procedural.corpus import VERSION, read_truth, write_corpus

__all__ = ["VERSION", "read_truth", "write_corpus"]
