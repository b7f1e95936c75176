import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from callbacks.score_writer import ScoreWriter, checked_output, read_journals, write_output
from datamodules.batches import VideoBatch
from datamodules.decoding import Video
from datamodules.errors import InputError
from datamodules.video_data import VideoDataModule

ROWS = [
    {"path": f"{index}.mp4", "score": index / 7, "stderr": 0.5, "status": "ok", "error": "", "model": "m"}
    for index in range(20_000)
]


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """A disk that is full for whoever writes a file larger than this, root included."""
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN  # as Python sets it: an OSError, no signal
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestOutput:
    @pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
    def test_a_full_disk_is_one_sentence_and_loses_no_journal(self, tmp_path: Path, suffix: str) -> None:
        output, journal = tmp_path / f"scores{suffix}", tmp_path / ".scores.0"
        journal.write_text("kept")
        with (
            files_end_at(4096),
            pytest.raises(InputError, match=rf"scores\{suffix} cannot be written \(.*File too large.*\); "),
        ):
            write_output(output, ROWS, len(ROWS), [journal])
        assert list(tmp_path.iterdir()) == [journal]
        write_output(output, ROWS, len(ROWS), [journal])
        assert list(tmp_path.iterdir()) == [output]

    def test_a_folder_that_took_its_name_is_one_sentence(self, tmp_path: Path) -> None:
        output = tmp_path / "scores.parquet"
        output.mkdir()
        with pytest.raises(InputError, match=r"scores\.parquet cannot be written \(Is a directory\)"):
            write_output(output, ROWS[:1], 1)
        assert list(tmp_path.iterdir()) == [output]
        output.rmdir()
        write_output(output, ROWS[:1], 1)
        assert pq.read_table(output).to_pylist() == ROWS[:1]

    def test_is_refused_before_the_scoring(self, tmp_path: Path) -> None:
        (tmp_path / "folder.csv").mkdir()
        for output, message in (("folder.csv", "is a folder"), ("absent/a.csv", "does not exist")):
            with pytest.raises(InputError, match=message):
                checked_output(str(tmp_path / output))
        # Root may write anywhere but where the system itself says no.
        with pytest.raises(InputError, match=r"cannot be written to \(.+\): name another place\.$"):
            checked_output("/proc/self/task/scores.csv")


class TestJournal:
    @pytest.fixture
    def writer(self, tmp_path: Path) -> ScoreWriter:
        writer = ScoreWriter(str(tmp_path / "scores.csv"))
        writer.folder, writer.prefix, writer.model = tmp_path, ".scores.csv.model", "model"
        writer.data = VideoDataModule(str(tmp_path))
        writer.data.pending = [Video(str(index), f"{index}.mp4") for index in range(200)]
        return writer

    @staticmethod
    def write(writer: ScoreWriter, rows: range) -> None:
        batch = VideoBatch(torch.empty(0), list(rows), {})
        scores = torch.arange(len(rows)), torch.ones(len(rows))
        trainer = Trainer(accelerator="cpu", logger=False)
        writer.on_predict_batch_end(trainer, LightningModule(), scores, batch, 0)

    def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(
        self, writer: ScoreWriter, tmp_path: Path
    ) -> None:
        trainer, module = Trainer(accelerator="cpu", logger=False), LightningModule()
        writer.on_predict_start(trainer, module)
        self.write(writer, range(10))
        with files_end_at(2500), pytest.raises(InputError, match=r"\.model\.0 cannot be written \(File too"):
            self.write(writer, range(10, 200))
        before = read_journals(tmp_path, writer.prefix)
        assert 10 <= len(before) < 200
        assert not (tmp_path / ".scores.csv.model.0").read_text().endswith("\n")  # what this is about
        writer.on_predict_start(trainer, module)
        self.write(writer, range(len(before), 200))
        after = read_journals(tmp_path, writer.prefix)
        assert list(after) == [video.path for video in writer.data.pending]
        assert json.dumps(list(after.values())[: len(before)]) == json.dumps(list(before.values()))
