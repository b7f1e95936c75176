"""The corpus: a table with one row a video, its splits, its near-duplicates, and the names others give it.

Imports `datamodules.video` and `datamodules.files`.
"""

from datamodules.corpus.clean_sources import find_sources
from datamodules.corpus.duplicates import find_duplicates, group_files, join_contents
from datamodules.corpus.splits import Splits, assign_splits
from datamodules.corpus.table import build_corpus, videos
from datamodules.corpus.video_names import match_names

__all__ = [
    "Splits",
    "assign_splits",
    "build_corpus",
    "find_duplicates",
    "find_sources",
    "group_files",
    "join_contents",
    "match_names",
    "videos",
]
