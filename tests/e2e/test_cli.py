"""The whole path through the real command line, on a small corpus with a tiny model."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from datamodules.video import Sampling
from vqa_lightning.cli import main
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMM, LMMConfig
from vqa_lightning.scoring.anchors import named_clips

SMALL = [
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
    "--model.lmm.quality_tower=null",
    "--model.lmm.pictures=true",
    "--model.lmm.feature_cache=null",
    "--model.scoring.whole=false",
    "--data.workers=0",
    "--data.counts.reference=0",
    "--model.lmm.embedded.image_size=32",
    "--model.lmm.embedded.hidden_size=32",
    "--model.lmm.embedded.vision_layers=1",
    "--model.lmm.embedded.text_layers=1",
    "--model.sampling.window=32",
    "--model.scoring.anchors=3",
    "--data.batch_size=4",
    "--data.counts.synthetic=16",
    "--data.counts.teacher=8",
    "--data.counts.evaluation=16",
    "--data.splits.shares=[0.5,0.25,0.25]",
]

TIMES = ("seconds", "annotation_seconds")

DIES_ONCE_IN_THE_SECOND_ROUND = """
from pathlib import Path
from lightning.pytorch import Callback

class Dies(Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.current_epoch == 1 and trainer.global_step == 9 and not Path("died").exists():
            Path("died").touch()
            raise SystemExit("killed")
"""


def fit(corpus: Path, *more: str) -> None:
    main(["fit", "--config", "round.yaml", "--data.videos", str(corpus / "manifest.csv"), *SMALL, *more])


def rows_of(file: Path, *without: str) -> list[dict[str, str]]:
    with file.open() as stream:
        return [{k: v for k, v in row.items() if k not in without} for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def finished(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a finished fit of two rounds."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(sys, "argv", ["vqa-lightning"])
        fit(small_corpus)
    return folder / "runs" / "round" / "version_0"


class TestFit:
    def test_leaves_a_run_folder(self, finished: Path) -> None:
        assert (finished / "config.yaml").is_file()
        assert (finished / "checkpoints" / "last.ckpt").is_file()
        rows = rows_of(finished / "rounds.csv")
        assert [row["round"] for row in rows] == ["0", "1"]
        assert list(rows[0])[:9] == [
            "round", "pairs_synthetic", "pairs_teacher", "pairs_reference", "pairs_hard",
            "rank_accuracy", "level_accuracy", "flipped", "seconds",
        ]  # fmt: skip
        for name in ("student", "niqe", "brisque", "artefacts", "ensemble", "laplacian"):
            assert -1 <= float(rows[0][f"severity_srcc_{name}"]) <= 1
            assert rows[0][f"truth_srcc_{name}"] == ""  # a user's own videos have none
        assert int(rows[0]["pairs_synthetic"]) == 16
        for row in rows:
            counts = [int(row[f"pairs_{source}"]) for source in ("synthetic", "teacher", "hard")]
            assert sum(counts) == 24

    def test_every_round_is_in_the_label_store(self, finished: Path) -> None:
        annotators = [path.name.rsplit("-", 1)[0] for path in sorted(finished.glob("labels/round=*/*"))]
        assert annotators == ["annotator=student", "annotator=student"]
        shared = finished.parents[2] / "cache" / "vqa-lightning" / "labels" / "round=0"
        assert sorted(path.name.split("-")[0] for path in shared.iterdir()) == [
            "annotator=artefacts",
            "annotator=brisque",
            "annotator=laplacian",
            "annotator=niqe",
        ]

    def test_tensorboard_has_what_a_person_looks_for(self, finished: Path) -> None:
        events = EventAccumulator(str(finished)).Reload()
        scalars = events.Tags()["scalars"]
        for tag in (
            "train/loss",
            "val/rank_accuracy",
            "val/level_accuracy",
            "val/rank_accuracy/gaussian_noise",
            "val/level_accuracy/gaussian_noise",
            "val/rank_accuracy/pairwise",
            "lr-MuonAdamW/pg1",
            "round/flipped",
        ):
            assert tag in scalars
        assert "pairs/select" in events.Tags()["images"]

    def test_a_second_run_that_finds_the_teachers_scores_ends_the_same(
        self, finished: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = finished.parents[2]
        monkeypatch.chdir(folder)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.setattr(sys, "argv", ["vqa-lightning"])
        fit(small_corpus)
        again = rows_of(finished.parent / "version_1" / "rounds.csv", *TIMES)
        assert again == rows_of(finished / "rounds.csv", *TIMES)

    def test_the_pairwise_judgement_annotates_against_the_anchors(
        self, here: Path, small_corpus: Path
    ) -> None:
        words = ["--trainer.max_epochs=1", "--callbacks.SelfImprovement.ladders", "2"]
        fit(small_corpus, "--model.score_by=pairwise", *words)
        run = here / "runs" / "round" / "version_0"
        improvement = yaml.safe_load((run / "config.yaml").read_text())["trainer"]["callbacks"][0]
        assert improvement["class_path"] == "callbacks.SelfImprovement"
        assert improvement["init_args"]["ladders"] == 2
        (row,) = rows_of(run / "rounds.csv")
        assert -1 <= float(row["severity_srcc_student"]) <= 1
        matrix = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"][
            "anchors.matrix"
        ]
        assert torch.allclose(matrix + matrix.T, torch.ones(3, 3))
        # Files of one's own, and any number of them.
        files = [str(path) for path in sorted(small_corpus.glob("*.mp4"))[:2]]
        named = f"--model.scoring.anchors={json.dumps(files)}"
        fit(small_corpus, "--model.score_by=pairwise", "--trainer.max_epochs=1", named)
        own = torch.load("runs/round/version_1/checkpoints/last.ckpt", weights_only=True)
        expected = named_clips(files, Sampling(window=32))
        assert all(torch.equal(*both) for both in zip(own["anchors"], expected, strict=True))
        main(
            ["predict", "--ckpt_path", str(run / "checkpoints/last.ckpt"), "--data.videos", str(small_corpus)]
        )
        assert {row["status"] for row in rows_of(here / "scores.csv")} == {"ok"}

    def test_a_pretrained_checkpoint_is_trained_and_scores(self, here: Path, small_corpus: Path) -> None:
        sizes = LMMConfig(
            embedded=EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1)
        )
        lmm = LMM(sizes, Sampling())
        lmm.model.save_pretrained(here / "llava")
        lmm.family.processor.save_pretrained(here / "llava")
        fit(small_corpus, "--model.lmm.pretrained=llava", "--trainer.max_epochs=1")
        run = here / "runs" / "round" / "version_0"
        assert len(rows_of(run / "rounds.csv")) == 1
        main(
            ["predict", "--ckpt_path", str(run / "checkpoints/last.ckpt"), "--data.videos", str(small_corpus)]
        )
        assert {row["status"] for row in rows_of(here / "scores.csv")} == {"ok"}


class TestResume:
    def test_a_run_that_died_ends_where_an_undisturbed_one_does(
        self, here: Path, small_corpus: Path, finished: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (here / "dies.py").write_text(DIES_ONCE_IN_THE_SECOND_ROUND)
        with pytest.raises(SystemExit, match="killed"):
            fit(small_corpus, "--trainer.callbacks+=dies.Dies")
        fit(small_corpus, "--trainer.callbacks+=dies.Dies", "--ckpt_path", "last")
        run = here / "runs" / "round" / "version_0"
        assert "going on with" in capsys.readouterr().err
        assert sorted(path.name for path in run.parent.iterdir()) == ["version_0"]
        assert rows_of(run / "rounds.csv", *TIMES) == rows_of(finished / "rounds.csv", *TIMES)
        ours, theirs = (
            torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
            for folder in (run, finished)
        )
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    def test_a_changed_setting_of_a_callback_is_refused(
        self,
        finished: Path,
        small_corpus: Path,
        monkeypatch: pytest.MonkeyPatch,
        refused: Callable[..., str],
    ) -> None:
        monkeypatch.chdir(finished.parents[2])
        told = refused(fit, small_corpus, "--callbacks.SelfImprovement.ladders=4", "--ckpt_path=last")
        assert "(callbacks.SelfImprovement.ladders: 1 -> 4)" in told

    def test_without_a_run_there_is_nothing_to_go_on_with(
        self, here: Path, small_corpus: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            fit(small_corpus, "--ckpt_path", "last")
        assert "there is no run under runs/round" in capsys.readouterr().err
        assert not (here / "runs").exists()


class TestPredict:
    def test_a_row_for_every_file_in_order(self, here: Path, finished: Path, edge_folder: Path) -> None:
        main(
            [
                "predict",
                "--ckpt_path",
                str(finished / "checkpoints" / "last.ckpt"),
                "--data.videos",
                str(edge_folder),
            ]
        )
        rows = rows_of(here / "scores.csv")
        assert list(rows[0]) == ["path", "score", "stderr", "status", "error", "model", "percentile"]
        assert [Path(row["path"]).name for row in rows] == sorted(path.name for path in edge_folder.iterdir())
        for row in rows:
            if row["status"] == "ok":
                assert torch.tensor([float(row["score"]), float(row["stderr"])]).isfinite().all()
                assert 0 <= float(row["percentile"]) <= 100
            else:
                assert row["error"].endswith(".")
                assert row["score"] == ""

    def test_real_clips(self, here: Path, finished: Path, clips_folder: Path) -> None:
        last = str(finished / "checkpoints" / "last.ckpt")
        main(
            ["predict", "--ckpt_path", last, "--data.videos", str(clips_folder), "--output", "clips.parquet"]
        )
        rows = pq.read_table(here / "clips.parquet").to_pylist()
        assert [Path(row["path"]).name for row in rows] == sorted(
            path.name for path in clips_folder.iterdir()
        )
        assert {row["status"] for row in rows} == {"ok"}
        assert len({row["model"] for row in rows}) == 1

    def test_the_runs_own_config_is_understood(self, here: Path, finished: Path, small_corpus: Path) -> None:
        videos = str(small_corpus / "manifest.csv")
        checkpoint = ["--ckpt_path", str(finished / "checkpoints" / "last.ckpt"), "--data.videos", videos]
        main(["predict", "--config", str(finished / "config.yaml"), *checkpoint, "--output", "a.jsonl"])
        main(["predict", *checkpoint, "--data.batch_size", "3", "--output", "b.jsonl"])
        first, second = (
            [json.loads(line) for line in (here / name).read_text().splitlines()]
            for name in ("a.jsonl", "b.jsonl")
        )
        assert [row["path"] for row in first] == [row["path"] for row in second]
        # Another batch size: float32 sums in another order.
        assert [row["score"] for row in first] == pytest.approx([row["score"] for row in second], abs=1e-3)

    def test_goes_on_where_it_stopped(self, here: Path, finished: Path, small_corpus: Path) -> None:
        command = [
            "predict",
            "--ckpt_path",
            str(finished / "checkpoints" / "last.ckpt"),
            "--data.batch_size=1",
        ]
        command += ["--data.videos", str(small_corpus)]
        main([*command, "--output", "whole.csv"])
        main([*command, "--output", "part.csv", "--trainer.limit_predict_batches=3"])
        assert not (here / "part.csv").exists()
        main([*command, "--output", "part.csv"])
        assert (here / "part.csv").read_text() == (here / "whole.csv").read_text()
        assert not list(here.glob(".part.csv*"))


class TestBadInput:
    """One sentence, exit code not 0, nothing written."""

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["--data.videos", "empty"], "empty"),
            (["--data.videos", "texts"], "texts"),
            (["--data.videos", "nowhere"], "nowhere"),
            (["--model.lmm.imagesize", "64"], "--model.lmm.imagesize"),
            (["--data.batchsize", "8"], "batchsize"),
            (["--config", "misspelt.yaml"], "patchsize"),
            (["--config", "absent.yaml"], "absent.yaml"),
            (["--data.simulators", "[gaussian_bluR]"], "gaussian_bluR"),
            (["--model.judgements", "[pairwise]"], "model.score_by"),
            (
                ["--data.teachers", "[{class_path: datamodules.ScoresFile, init_args: {path: column.csv}}]"],
                "score",
            ),
            (["--ckpt_path", "other.ckpt"], "another model"),
            (["--ckpt_path", "text.ckpt"], "text.ckpt"),
        ],
    )
    def test_fit(self, here: Path, words: list[str], sentence: str, refused: Callable[..., str]) -> None:
        (here / "empty").mkdir()
        (here / "texts").mkdir()
        (here / "texts" / "readme.txt").write_text("no video")
        (here / "misspelt.yaml").write_text("model: {lmm: {patchsize: 8}}\n")
        (here / "column.csv").write_text("file,mark\na.mp4,3\n")
        (here / "text.ckpt").write_text("no checkpoint")
        torch.save({"state_dict": {"weight": torch.zeros(1)}}, here / "other.ckpt")
        before = sorted(here.iterdir())
        told = refused(
            main, ["fit", "--config", "round.yaml", "--data.videos", str(here / "empty"), *SMALL, *words]
        )
        assert sentence in told
        assert sorted(path for path in here.iterdir() if path.name != "cache") == before

    def test_a_scores_file_that_misses_a_video(
        self, here: Path, small_corpus: Path, refused: Callable[..., str]
    ) -> None:
        (here / "scores.csv").write_text("path,score\ncontent_000.mp4,3\n")
        teacher = "[{class_path: datamodules.ScoresFile, init_args: {path: scores.csv}}]"
        assert "no score for 7 of 8 videos" in refused(fit, small_corpus, "--data.teachers", teacher)

    def test_predict_of_nothing_readable(
        self, here: Path, finished: Path, refused: Callable[..., str]
    ) -> None:
        (here / "broken.mp4").write_bytes(b"no video")
        checkpoint = str(finished / "checkpoints/last.ckpt")
        told = refused(main, ["predict", "--ckpt_path", checkpoint, "--data.videos", "broken.mp4"])
        assert "not one of 1 videos" in told
        assert rows_of(here / "scores.csv")[0]["status"] == "error"


def test_a_users_own_folder_does_not_hide_ours(here: Path) -> None:
    for name in ("callbacks", "datamodules"):
        (here / name).mkdir()
        (here / name / "__init__.py").write_text("raise ImportError('the user's own')")
    done = subprocess.run(
        [sys.executable, "-m", "vqa_lightning", "list"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "callbacks and datamodules" in done.stderr
    for word in ("gaussian_blur", "datamodules.NIQE", "llava_onevision", "round.yaml"):
        assert word in done.stdout
