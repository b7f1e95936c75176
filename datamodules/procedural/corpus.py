"""The files of the embedded corpus: rendered once, in parallel, with a manifest and a truth for evaluation.

Nothing that trains may read the truth, except opinions of simulated observers where a run asks for MOS
(`observers`): the manifest names files and splits, no more. The clean renders of the report split are never
written.
"""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datamodules.checks import check_least
from datamodules.errors import InputError
from datamodules.files import one_at_a_time, written_whole
from datamodules.procedural.rendering import CLEAN, Row, Upload, in_processes, produce

VERSION = 2  # raise it when a change of the generator changes the files
CHAINS = 7
"""Uploads of each content of the report split, so that 43 contents make 301 videos."""

MANIFEST, TRUTH, REFERENCES = "manifest.csv", "truth.csv", f"{CLEAN}/references.csv"
_JOURNAL, _RECIPE, _LOCK = "truth.partial.csv", "corpus.json", ".lock"
_SELECT, _REPORT = 1 / 6, 1 / 3  # shares of the contents; the rest trains


class CleanRender(NamedTuple):
    """The clean render of one content: its file, its content's name, and its split (train or select)."""

    path: Path
    content: str
    split: str


def _splits(contents: int) -> list[str]:
    """Return the split of each content, in order; contents are exchangeable, so that runs of them serve."""
    select, report = (max(1, round(share * contents)) for share in (_SELECT, _REPORT))
    return ["train"] * (contents - select - report) + ["select"] * select + ["report"] * report


# ---------------------------------------------------------------- rendering


def _render(folder: Path, seed: int, uploads: list[Upload], workers: int) -> Iterator[list[Row]]:
    """Write the contents and yield the rows of each as they come, under a progress bar on stderr."""
    if workers > 1:
        produced = in_processes(folder, seed, uploads, workers)
    else:
        produced = (produce(folder, seed, upload) for upload in uploads)
    text = TextColumn("Rendering the procedural corpus")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield from progress.track(produced, total=len(uploads))


# ---------------------------------------------------------------- tables


def _read_rows(path: Path) -> list[Row]:
    """Read the rows of a table; none where it is absent. A last line cut short, by a kill, is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))


def _replace(path: Path, text: str) -> None:
    with written_whole(path) as hidden:
        hidden.write_text(text, encoding="utf-8")


def _table(rows: list[Row]) -> str:
    """Write CSV with a header; no cell of ours needs quoting."""
    return "".join(",".join(line) + "\n" for line in (rows[0], *(row.values() for row in rows)))


def _claim(folder: Path, contents: int, seed: int, chains: int) -> None:
    """Make the folder this corpus's own, or find that it already is.

    Raises:
        InputError: the folder holds another corpus.
    """
    recipe = {"version": VERSION, "contents": contents, "seed": seed, "chains": chains}
    path = folder / _RECIPE
    (folder / CLEAN).mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _replace(path, json.dumps(recipe) + "\n")
    found = json.loads(path.read_text(encoding="utf-8"))
    if found != recipe:
        raise InputError(f"{folder} holds another corpus, {found}, not {recipe}; name another or delete it.")


def write_corpus(
    folder: Path, contents: int = 128, seed: int = 0, workers: int | None = None, chains: int = CHAINS
) -> Path:
    """Write the procedural corpus once: H.264 files, `manifest.csv`, and `truth.csv` for evaluation only.

    The folder `references` takes the clean renders of the train and the select split (`read_references`). A
    finished corpus is reused and an interrupted corpus is completed: a file appears under its name when it is
    whole, the manifest when everything else is there. The bytes are the same for any number of workers.

    Args:
        folder: where the corpus lies; made if need be.
        contents: how many scenes are filmed; at least 3, one for each split.
        seed: content i of a split is a function of (seed, i) alone, and its chain k of (seed, i, k).
        workers: processes that render; by default one a core. With 1, this process renders.
        chains: videos of each content of the report split; other contents have one.

    Returns:
        The manifest: columns path (relative to it), content and split (train, select, report).

    Raises:
        InputError: there are fewer than three contents, or the folder holds another corpus.
    """
    check_least("The contents of a corpus with three splits", contents, 3)
    check_least("The chains of a content", chains, 1)
    _claim(folder, contents, seed, chains)
    with one_at_a_time(folder / _LOCK, f"waiting for the process that renders into {folder}"):
        return _complete(folder, contents, seed, workers, chains)


def _complete(folder: Path, contents: int, seed: int, workers: int | None, chains: int) -> Path:
    """Write what is missing, in the only process that does, and return the manifest."""
    manifest, truth, journal = folder / MANIFEST, folder / TRUTH, folder / _JOURNAL
    uploads = [Upload(place, split, chains) for place, split in enumerate(_splits(contents))]
    rows = {row["path"]: row for row in _read_rows(journal) + _read_rows(truth)}
    missing = [upload for upload in uploads if not _is_there(folder, upload, rows)]
    if missing or not manifest.exists():
        journal.unlink(missing_ok=True)
        if rows:  # written anew, since a line cut short would run into the next
            _replace(journal, _table(list(rows.values())))
        for found in _render(folder, seed, missing, min(workers or os.cpu_count() or 1, len(missing))):
            table = _table(found)
            with journal.open("a", encoding="utf-8") as file:
                file.write(table.split("\n", 1)[1] if file.tell() else table)
            rows |= {row["path"]: row for row in found}
        _replace(truth, _table([rows[path] for upload in uploads for path in upload.paths]))
        learnt = [
            {"path": Path(upload.reference).name, "content": upload.content, "split": upload.split}
            for upload in uploads
            if upload.reference is not None
        ]
        _replace(folder / REFERENCES, _table(learnt))
        listed = [
            {"path": path, "content": upload.content, "split": upload.split}
            for upload in uploads
            for path in upload.paths
        ]
        _replace(manifest, _table(listed))
        journal.unlink(missing_ok=True)
    return manifest


def _is_there(folder: Path, upload: Upload, rows: dict[str, Row]) -> bool:
    """Tell whether all files of a content are written, and scored."""
    files = [*upload.paths, *([] if upload.reference is None else [upload.reference])]
    return all(path in rows for path in upload.paths) and all((folder / file).exists() for file in files)


def read_references(folder: Path) -> list[CleanRender]:
    """Return the clean renders of the train and the select split, as they were before their hidden chains.

    They are visually lossless H.264 of at least 16 frames, from 240 to 720 lines (of the shorter side).

    Args:
        folder: where `write_corpus` wrote the corpus.

    Raises:
        InputError: the folder holds no finished procedural corpus.
    """
    table = folder / REFERENCES
    rows = _read_rows(table)
    if not rows:
        raise InputError(f"{folder} holds no {REFERENCES}; name the folder that write_corpus filled.")
    return [CleanRender(table.with_name(row["path"]), row["content"], row["split"]) for row in rows]


def read_truth(folder: Path, metric: Literal["vmaf", "ms_ssim", "ssim"] = "vmaf") -> dict[str, float]:
    """Read the hidden truth of a procedural corpus: for evaluation only, never for what trains or selects.

    Args:
        folder: where `write_corpus` wrote the corpus.
        metric: VMAF v0.6.1 (0 to 100), MS-SSIM or SSIM (at most 1) against the clean render.

    Returns:
        File name in the manifest to quality; higher is better.

    Raises:
        InputError: the folder holds no finished procedural corpus.
    """
    rows = _read_rows(folder / TRUTH)
    if not rows:
        raise InputError(f"{folder} holds no {TRUTH}; name the folder that write_corpus filled.")
    return {row["path"]: float(row[metric]) for row in rows}
