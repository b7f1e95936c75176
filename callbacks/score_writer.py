"""Writes predict's rows in input order, and goes on where an interrupted run stopped.

Rows gather in a journal beside the output, one a rank, under the hash of the model that gave them; the
output itself appears whole, at the end, so that a half-written file is never mistaken for a finished one.
"""

import csv
import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_info

from datamodules.batches import VideoBatch
from datamodules.errors import InputError
from datamodules.video_data import VideoDataModule
from vqa_lightning.module import RankingModule
from vqa_lightning.student import Student

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("score", pa.float64()),
        ("stderr", pa.float64()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("model", pa.string()),
    ]
)
SUFFIXES = (".csv", ".jsonl", ".parquet")


class ScoreWriter(Callback):
    """Writes `path,score,stderr,status,error,model`, one row a file, in input order.

    Args:
        output: file to write; its suffix, .csv, .jsonl or .parquet, says how.

    Raises:
        InputError: another suffix, a folder that does not exist or cannot be written to, a disk that is full,
            or, at the end, not one video that could be scored.
    """

    def __init__(self, output: str = "scores.csv") -> None:
        self.output = checked_output(output)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets the loader leave out what an interrupted run of the same model has scored."""
        self.data = _video_data(trainer)
        self.data.scored = lambda: set(self._read(pl_module))

    def _read(self, module: LightningModule) -> dict[str, Mapping[str, Any]]:
        assert isinstance(module, RankingModule)
        self.model = f"{type(module).__name__}-{Student(module).fingerprint}"
        self.folder = self.output.resolve().parent
        self.prefix = f".{self.output.name}.{self.model}"
        return read_journals(self.folder, self.prefix)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens this rank's journal.

        Raises:
            InputError: it cannot be written to.
        """
        path = self.folder / f"{self.prefix}.{trainer.global_rank}"
        with one_sentence(path):
            self.journal = path.open("ab")
            # Behind a line cut short by an interruption the next would be lost too, and cut short itself.
            self.journal.truncate(path.read_bytes().rfind(b"\n") + 1)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Appends the batch's rows to the journal.

        Raises:
            InputError: it cannot be written to.
        """
        assert isinstance(batch, VideoBatch)
        scores, errors = (values.tolist() for values in outputs)
        found: dict[int, dict[str, Any]] = {
            row: {"score": score, "stderr": error, "status": "ok", "error": ""}
            for row, score, error in zip(batch.rows, scores, errors, strict=True)
        }
        for row, sentence in batch.errors.items():
            found[row] = {"score": None, "stderr": None, "status": "error", "error": sentence}
        lines = [
            json.dumps({"path": self.data.pending[row].path, **values, "model": self.model}) + "\n"
            for row, values in found.items()
        ]
        with one_sentence(Path(self.journal.name)):
            try:
                self.journal.write("".join(lines).encode())
                self.journal.flush()
            except OSError:
                with suppress(OSError):
                    self.journal.close()  # which tries once more; later it would do so out of our hands
                raise

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the rows of all ranks into the output."""
        with one_sentence(Path(self.journal.name)):
            self.journal.close()
        trainer.strategy.barrier()
        if not trainer.is_global_zero:
            return
        found = read_journals(self.folder, self.prefix)
        ordered = [found[video.path] for video in self.data.rows if video.path in found]
        journals = list(self.folder.glob(f"{glob.escape(self.prefix)}.*"))
        write_output(self.output, ordered, expected=len(self.data.rows), journals=journals)


def checked_output(output: str) -> Path:
    """The file to write, refused now and not after hours.

    Raises:
        InputError: its suffix is none of SUFFIXES, it is a folder itself, or its folder does not exist or
            cannot be written to.
    """
    path = Path(output)
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"--output {output} has the suffix {path.suffix!r}: use one of {', '.join(SUFFIXES)}."
        )
    folder = path.resolve().parent
    if not folder.is_dir():
        raise InputError(f"--output {output} is in a folder that does not exist: make it first.")
    if path.is_dir():
        raise InputError(f"--output {output} is a folder: name a file.")
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(
            f"--output {output} is in a folder that cannot be written to ({error.strerror}): "
            "name another place."
        ) from error
    return path


def write_output(
    output: Path, rows: Sequence[Mapping[str, Any]], expected: int, journals: Sequence[Path] = ()
) -> None:
    """Writes the output if its rows are complete, and says how many there are.

    Args:
        output: the file.
        rows: of SCHEMA, in the order of the input.
        expected: number of rows of a complete output.
        journals: files to remove once it is written.

    Raises:
        InputError: not one video has a score, or the output cannot be written.
    """
    if len(rows) < expected:
        rank_zero_info(f"{len(rows)} of {expected} videos scored: the same command goes on.")
        return
    write_rows(output, pa.Table.from_pylist(rows, schema=SCHEMA))
    for journal in journals:
        with one_sentence(journal):
            journal.unlink()
    failed = [row for row in rows if row["status"] == "error"]
    rank_zero_info(f"{output}: {len(rows) - len(failed)} videos scored, {len(failed)} unreadable")
    if len(failed) == len(rows):
        raise InputError(f"not one of {len(rows)} videos could be read; the first: {failed[0]['error']}")


def read_journals(folder: Path, prefix: str) -> dict[str, Mapping[str, Any]]:
    """Path -> row of what journals hold; a last line cut short by an interruption is left out."""
    rows: dict[str, Mapping[str, Any]] = {}
    for journal in sorted(folder.glob(f"{glob.escape(prefix)}.*")):
        for line in journal.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                row = json.loads(line)
                rows[row["path"]] = row
    return rows


def write_rows(output: Path, table: pa.Table) -> None:
    """Writes a table by the output's suffix, under a temporary name first.

    Raises:
        InputError: the output cannot be written.
    """
    hidden = output.with_name(f".{output.name}.tmp")
    with one_sentence(output):
        try:
            if output.suffix == ".parquet":
                pq.write_table(table, hidden)
            elif output.suffix == ".csv":
                with hidden.open("w", newline="") as stream:
                    writer = csv.DictWriter(stream, table.column_names, lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(table.to_pylist())
            else:
                hidden.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
            os.replace(hidden, output)
        except BaseException:
            with suppress(OSError):
                hidden.unlink()
            raise


@contextmanager
def one_sentence(file: Path) -> Iterator[None]:
    """Turns what the system says while a file is written into an InputError that names the file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0].rstrip(".")
        raise InputError(
            f"{file} cannot be written ({reason}); mend that and repeat the command, which keeps the scores "
            "written so far."
        ) from error


def _video_data(trainer: Trainer) -> VideoDataModule:
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, VideoDataModule)
    return data
