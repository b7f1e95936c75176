"""Worker processes that render contents.

Workers are plain interpreters, since `multiprocessing` would import the caller's main module, the whole CLI,
in each.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO

Row = dict[str, str]


def _worker(folder: str, seed: int, uploads: list[tuple[int, str, int]]) -> None:
    """Live as a worker process: print one line of JSON for each content done."""
    # Imported here, since that module imports this one
    from datamodules.procedural.corpus import Upload, produce

    for upload in uploads:
        print(json.dumps(produce(Path(folder), seed, Upload(*upload))), flush=True)


def in_processes(
    folder: Path, seed: int, uploads: Sequence[tuple[int, str, int]], workers: int
) -> Iterator[list[Row]]:
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
