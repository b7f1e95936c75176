"""Files of ours: written whole or not at all, found again in a cache, told apart by what they hold.

Imports only `datamodules.errors`.
"""

from datamodules.files.file_cache import FileCache, cache_folder
from datamodules.files.fingerprints import file_hash, weights_hash
from datamodules.files.whole_files import remove_unfinished, written_whole

__all__ = ["FileCache", "cache_folder", "file_hash", "remove_unfinished", "weights_hash", "written_whole"]
