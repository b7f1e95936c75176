"""What is written of each content, and the worker processes that write it.

Workers are plain interpreters, since `multiprocessing` would import the caller's main module, the whole CLI,
in each.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, NamedTuple

Row = dict[str, str]

CLEAN = "references"
"""Folder of the clean renders, in that of the corpus."""


class Upload(NamedTuple):
    """One content of a corpus, and what is written of it.

    Attributes:
        place: of the content in the corpus.
        split: train, select or report.
        chains: how many videos are made of it.
    """

    place: int
    split: str
    chains: int

    @property
    def content(self) -> str:
        """Its name."""
        return f"content_{self.place:03d}"

    @property
    def paths(self) -> list[str]:
        """Names of its videos."""
        if self.split != "report":
            return [f"{self.content}.mp4"]
        return [f"{self.content}_{number}.mp4" for number in range(self.chains)]

    @property
    def reference(self) -> str | None:
        """Path of its clean render in the corpus's folder; the report split has none."""
        return None if self.split == "report" else f"{CLEAN}/{self.content}.mp4"


def produce(folder: Path, seed: int, upload: Upload) -> list[Row]:
    """Write one content of the corpus and return its rows of truth.csv."""
    # Imported here, since reading the truth must not cost the imports of rendering
    from datamodules.procedural.chains import draw_chain
    from datamodules.procedural.contents import LEARNT, REPORTED, draw_content
    from datamodules.procedural.uploads import write_uploads

    place, reference = upload.place, upload.reference
    content = draw_content(seed, place, REPORTED if upload.split == "report" else LEARNT)
    chains = [draw_chain(seed, place, number, len(upload.paths)) for number in range(len(upload.paths))]
    files = [folder / path for path in upload.paths]
    clean = None if reference is None else folder / reference
    scores = write_uploads(list(zip(files, chains, strict=True)), content, (seed, place), clean)
    rows = []
    for path, chain, scored in zip(upload.paths, chains, scores, strict=True):
        row = {"path": path, "content": upload.content}
        row |= {name: f"{value:.6f}" for name, value in scored.items()}
        for name, value in asdict(chain).items():
            row[name] = f"{value:.4f}" if isinstance(value, float) else str(value)
        rows.append(row)
    return rows


def _worker(folder: str, seed: int, uploads: list[tuple[int, str, int]]) -> None:
    """Live as a worker process: print one line of JSON for each content done."""
    for upload in uploads:
        print(json.dumps(produce(Path(folder), seed, Upload(*upload))), flush=True)


def in_processes(folder: Path, seed: int, uploads: Sequence[Upload], workers: int) -> Iterator[list[Row]]:
    """Write contents in that many processes and yield the rows of each as they come.

    Raises:
        RuntimeError: a process ended early; the files that it wrote stay.
    """
    rows: SimpleQueue[list[Row] | None] = SimpleQueue()

    def listen(output: IO[str]) -> None:
        for line in output:
            rows.put(json.loads(line))
        rows.put(None)

    processes: list[subprocess.Popen[str]] = []
    try:
        for first in range(workers):
            call = f"_worker({str(folder)!r}, {seed}, {[tuple(one) for one in uploads[first::workers]]})"
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
