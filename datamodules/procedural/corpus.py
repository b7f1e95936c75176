"""The files of the embedded corpus: rendered once, in parallel, with a manifest and a truth for evaluation.

Nothing that trains may read the truth, except opinions of simulated observers where a run asks for MOS
(`observers`): the manifest names files and splits, no more. Workers are plain interpreters, since
`multiprocessing` would import the caller's main module, the whole CLI, in each.
"""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datamodules.checks import check_least
from datamodules.errors import InputError

VERSION = 1  # raise it when a change of the generator changes the files
MANIFEST, TRUTH = "manifest.csv", "truth.csv"
REFERENCES = "references/references.csv"
_JOURNAL, _RECIPE = "truth.partial.csv", "corpus.json"
_SELECT, _REPORT = 0.1875, 0.3125  # shares of the contents; the rest trains
_REPORT_AT_LEAST = 32  # from 96 contents on: fewer make the interval of a rank correlation useless

Row = dict[str, str]


def _name(index: int) -> str:
    return f"content_{index:03d}"


def _splits(contents: int) -> list[str]:
    """Return the split of each content, in order; contents are exchangeable, so that runs of them serve."""
    report = round(_REPORT * contents)
    if contents >= 3 * _REPORT_AT_LEAST:
        report = max(report, _REPORT_AT_LEAST)
    report, select = max(1, report), max(1, round(_SELECT * contents))
    return ["train"] * (contents - select - report) + ["select"] * select + ["report"] * report


# ---------------------------------------------------------------- rendering


def _produce(folder: Path, seed: int, index: int) -> Row:
    """Write one content of the corpus and return its row of truth.csv."""
    # Imported here, since reading the truth must not cost the imports of rendering
    from datamodules.procedural.uploads import draw_chain, write_content

    name = _name(index)
    scores = write_content(folder / f"{name}.mp4", seed, index)
    row = {"path": f"{name}.mp4", "content": name} | {key: f"{value:.6f}" for key, value in scores.items()}
    for key, value in asdict(draw_chain(seed, index)).items():
        row[key] = f"{value:.4f}" if isinstance(value, float) else str(value)
    return row


def _worker(folder: str, seed: int, indices: list[int]) -> None:
    """Live as a worker process: print one line of JSON for each content done."""
    for index in indices:
        print(json.dumps(_produce(Path(folder), seed, index)), flush=True)


def _in_processes(folder: Path, seed: int, indices: list[int], workers: int) -> Iterator[Row]:
    """Write contents in that many processes and yield their rows as they come.

    Raises:
        RuntimeError: a process ended early; the files that it wrote stay.
    """
    rows: SimpleQueue[Row | None] = SimpleQueue()

    def listen(output: IO[str]) -> None:
        for line in output:
            rows.put(json.loads(line))
        rows.put(None)

    processes: list[subprocess.Popen[str]] = []
    try:
        for first in range(workers):
            call = f"_worker({str(folder)!r}, {seed}, {indices[first::workers]})"
            code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import _worker; {call}"
            command = [sys.executable, "-c", code]
            # A session of its own: an interrupt reaches this process alone, which then ends the workers
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
            processes.append(process)
            assert process.stdout is not None
            Thread(target=listen, args=(process.stdout,), daemon=True).start()
        for _ in processes:  # each listener ends with None
            yield from iter(rows.get, None)
        if any(process.wait() for process in processes):
            raise RuntimeError(f"A process that rendered into {folder} ended early; its message is above.")
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _render(folder: Path, seed: int, indices: list[int], workers: int) -> Iterator[Row]:
    """Write the contents and yield their rows as they come, under a progress bar on stderr."""
    if workers > 1:
        produced = _in_processes(folder, seed, indices, workers)
    else:
        produced = (_produce(folder, seed, index) for index in indices)
    text = TextColumn("Rendering the procedural corpus")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield from progress.track(produced, total=len(indices))


# ---------------------------------------------------------------- tables


def _read_rows(path: Path) -> list[Row]:
    """Read the rows of a table; none where it is absent. A last line cut short, by a kill, is left out."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_text(text)
    os.replace(unfinished, path)


def _table(rows: list[Row]) -> str:
    """Write CSV with a header; no cell of ours needs quoting."""
    return "".join(",".join(line) + "\n" for line in (rows[0], *(row.values() for row in rows)))


def _claim(folder: Path, contents: int, seed: int) -> None:
    """Make the folder this corpus's own, or find that it already is.

    Raises:
        InputError: the folder holds another corpus.
    """
    recipe = {"version": VERSION, "contents": contents, "seed": seed}
    path = folder / _RECIPE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _replace(path, json.dumps(recipe) + "\n")
    found = json.loads(path.read_text())
    if found != recipe:
        raise InputError(f"{folder} holds another corpus, {found}, not {recipe}; name another or delete it.")


def write_corpus(folder: Path, contents: int = 128, seed: int = 0, workers: int | None = None) -> Path:
    """Write the procedural corpus once: H.264 files, `manifest.csv`, and `truth.csv` for evaluation only.

    A finished corpus is reused and an interrupted corpus is completed: a file appears under its name when it
    is whole, the manifest when everything else is there. The bytes are the same for any number of workers.

    Args:
        folder: where the corpus lies; made if need be.
        contents: how many videos; at least 3, one for each split.
        seed: content i is a function of (seed, i) alone.
        workers: processes that render; by default one a core. With 1, this process renders.

    Returns:
        The manifest: columns path (relative to it), content and split (train, select, report).

    Raises:
        InputError: there are fewer than three contents, or the folder holds another corpus.
    """
    check_least("The contents of a corpus with three splits", contents, 3)
    _claim(folder, contents, seed)
    manifest, truth, journal = folder / MANIFEST, folder / TRUTH, folder / _JOURNAL
    names = [_name(index) for index in range(contents)]
    rows = {row["content"]: row for row in _read_rows(journal) + _read_rows(truth)}
    missing = [k for k, name in enumerate(names) if name not in rows or not (folder / f"{name}.mp4").exists()]
    if missing or not manifest.exists():
        journal.unlink(missing_ok=True)
        if rows:  # written anew, since a line cut short would run into the next
            _replace(journal, _table(list(rows.values())))
        for row in _render(folder, seed, missing, min(workers or os.cpu_count() or 1, len(missing))):
            table = _table([row])
            with journal.open("a") as file:
                file.write(table.split("\n", 1)[1] if file.tell() else table)
            rows[row["content"]] = row
        _replace(truth, _table([rows[name] for name in names]))
        listed = [
            {"path": f"{name}.mp4", "content": name, "split": split}
            for name, split in zip(names, _splits(contents), strict=True)
        ]
        _replace(manifest, _table(listed))
        journal.unlink(missing_ok=True)
    return manifest


def read_truth(folder: Path) -> dict[str, float]:
    """Read the hidden truth of a procedural corpus: for evaluation only, never for what trains or selects.

    Args:
        folder: where `write_corpus` wrote the corpus.

    Returns:
        Content to MS-SSIM against the clean render; higher is better, at most 1.

    Raises:
        InputError: the folder holds no finished procedural corpus.
    """
    rows = _read_rows(folder / TRUTH)
    if not rows:
        raise InputError(f"{folder} holds no {TRUTH}; name the folder that write_corpus filled.")
    return {row["content"]: float(row["ms_ssim"]) for row in rows}
