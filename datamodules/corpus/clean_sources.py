"""Where the sources of reference labels come from: named by a user, rendered, or made of the videos."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from datamodules.corpus.smaller_copies import smaller_copies
from datamodules.corpus.splits import Splits, assign_splits
from datamodules.corpus.table import build_corpus, videos
from datamodules.video import Video


def find_sources(
    named: str | Path | None, corpus: pa.Table, splits: Splits, folder: Path
) -> tuple[list[Video], dict[str, str]]:
    """Find the sources of reference labels.

    Args:
        named: clean sources, as a folder, file, glob or manifest; None: each video of the train and the
            select split, made smaller where it has the lines (`smaller_copies`).
        corpus: with its splits.
        splits: how named sources are divided that have no split of their own.
        folder: where the copies are kept.

    Returns:
        The readable sources, each of split train or select; and source -> video for what was made of videos,
        none of which is known to be clean.
    """
    if named is None:
        made = smaller_copies([*videos(corpus, "train"), *videos(corpus, "select")], folder)
        return list(made.values()), {source.video_id: name for name, source in made.items()}
    sources = build_corpus(named)
    readable = videos(sources)
    if not all(source.split for source in readable) and len({source.content for source in readable}) > 2:
        sources = assign_splits(sources, splits.shares, splits.seed)
    # No figure is reported of sources: those that fall to the report split are trained on.
    divided = [replace(one, split="select" if one.split == "select" else "train") for one in videos(sources)]
    return divided, {}
