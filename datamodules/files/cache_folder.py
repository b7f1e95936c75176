"""Where everything that can be computed again is kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder of what can be made again: $XDG_CACHE_HOME/vqa-lightning, else ~/.cache/vqa-lightning."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vqa-lightning"
