"""Files of ours: whole or not at all, found again in a cache, told apart by what they hold; tables in files.

Imports only `datamodules.errors` and `datamodules.names`.
"""

from datamodules.files.claims import claim, claimed_folder, give_back_claims, one_at_a_time
from datamodules.files.file_cache import FileCache, cache_folder
from datamodules.files.fingerprints import file_hash, weights_hash
from datamodules.files.tables import (
    absolute_paths,
    moved_paths,
    numbers,
    read_table,
    read_text,
    texts,
    write_table,
)
from datamodules.files.whole_files import hidden_beside, remove_unfinished, written_whole

__all__ = [
    "FileCache",
    "absolute_paths",
    "cache_folder",
    "claim",
    "claimed_folder",
    "file_hash",
    "give_back_claims",
    "hidden_beside",
    "moved_paths",
    "numbers",
    "one_at_a_time",
    "read_table",
    "read_text",
    "remove_unfinished",
    "texts",
    "weights_hash",
    "write_table",
    "written_whole",
]
