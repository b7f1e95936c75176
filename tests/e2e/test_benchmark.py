"""`test` on sets of human opinions, through the real command line."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vqa_lightning.cli import main
from vqa_lightning.metrics import agreement

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--data.workers=0"]
MOS = [2.0, 3.5, 1.0, 4.0, 3.0, 4.5, 1.5, 2.5, 5.0]


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def same_files(one: Path, other: Path) -> None:
    for name in ("benchmarks.csv", "scores.csv", "KoNViD-1k/scores.csv", "KoNViD-1k/human_scale.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.fixture(autouse=True)
def here(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with a cache of its own, and a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return here


@pytest.fixture(scope="module")
def videos(mixed_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine videos and a file that is none; the list beside them names one more."""
    folder = tmp_path_factory.mktemp("benchmark") / "videos"
    shutil.copytree(mixed_corpus, folder)
    (folder / "broken.mp4").write_bytes(b"no video")
    rows = [f"video-{index}.mp4,{mos},0.8,16" for index, mos in enumerate(MOS)]
    extra = [f"{name}.mp4,3,0.8,16" for name in ("broken", "absent")]
    folder.with_suffix(".csv").write_text("\n".join(["name,mos,std,votes", *rows, *extra]) + "\n")
    return folder


@pytest.fixture(scope="module")
def command(videos: Path, tiny_checkpoint: Path) -> list[str]:
    words = ["test", "--ckpt_path", str(tiny_checkpoint), *QUIET, "--data", "BenchmarkDataModule"]
    words += ["--data.benchmark", "KoNViD-1k", "--data.labels", str(videos.with_suffix(".csv"))]
    return [*words, "--data.videos", str(videos)]


@pytest.fixture(scope="module")
def finished(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The report of one process, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    printed = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("COLUMNS", "80")
        patch.setattr(sys, "argv", ["vqa-lightning"])
        main(command)
    return folder / "benchmark_report", printed.getvalue()


def test_leaves_figures_scores_pictures_and_a_calibration(
    here: Path, finished: tuple[Path, str], videos: Path, tiny_checkpoint: Path
) -> None:
    report, told = finished
    assert max(map(len, told.splitlines())) <= 80
    assert "KoNViD-1k: 1 unreadable, which no figure counts: broken.mp4" in told
    assert "in-domain lacks LSVQ-test, LSVQ-1080p, LIVE-VQC, YouTube-UGC." in told
    assert "0.745" in told  # the published stage 3

    scores = rows_of(report / "KoNViD-1k" / "scores.csv")
    scored = [row for row in scores if row["status"] == "ok"]
    assert [(float(row["mos"]), float(row["deviation"])) for row in scored] == [(mos, 0.8) for mos in MOS]
    (broken,) = (row for row in scores if row["status"] == "error")
    assert Path(broken["path"]).name == "broken.mp4"
    assert broken["score"] == ""

    row, average = rows_of(report / "benchmarks.csv")
    assert (row["set"], row["n"], row["missing"], row["unreadable"]) == ("KoNViD-1k", "9", "1", "1")
    expected = agreement([float(one["score"]) for one in scored], MOS)
    for name in ("srcc", "krcc", "plcc", "rmse", "plcc_raw"):
        assert float(row[name]) == expected[name]
    for name in ("srcc", "krcc", "plcc", "rmse"):
        assert float(row[f"{name}_low"]) <= float(row[name]) <= float(row[f"{name}_high"])
    assert (average["set"], average["n"]) == ("in-domain average", "9")
    assert float(average["srcc"]) == pytest.approx(expected["srcc"], abs=1e-12)  # a mean of one

    picture = Image.open(report / "KoNViD-1k" / "scatter.png")
    assert len(picture.convert("RGB").getcolors(2**24)) > 50
    events = EventAccumulator(str(report)).Reload()
    assert events.Scalars("KoNViD-1k/srcc_low")[0].value == pytest.approx(float(row["srcc_low"]), abs=1e-6)
    assert events.Tags()["images"] == ["KoNViD-1k/scatter"]

    scale = json.loads((report / "KoNViD-1k" / "human_scale.json").read_text())
    assert (scale["n"], scale["model"]) == (9, row["model"])
    predict = ["predict", "--ckpt_path", str(tiny_checkpoint), *QUIET, "--data.videos", str(videos)]
    main([*predict, "--calibration", str(report / "KoNViD-1k" / "human_scale.json")])
    told_alone = {row["path"]: row for row in rows_of(here / "scores.csv")}
    assert all(told_alone[row["path"]]["score"] == row["score"] for row in scored)
    assert all(min(MOS) <= float(told_alone[row["path"]]["calibrated"]) <= max(MOS) for row in scored)


def test_goes_on_after_an_interruption_and_keeps_what_another_model_wrote(
    here: Path,
    command: list[str],
    finished: tuple[Path, str],
    save_checkpoint: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    refused: Callable[..., str],
) -> None:
    main([*command, "--output", "part", "--trainer.limit_test_batches=4"])
    assert "Agreement" not in capsys.readouterr().out
    assert not (here / "part" / "benchmarks.csv").exists()
    main([*command, "--output", "part"])
    same_files(here / "part", finished[0])

    other = list(command)
    other[other.index("--ckpt_path") + 1] = str(save_checkpoint(here / "other.ckpt", seed=1))
    assert "scores.csv was written with RankingModule-" in refused(main, [*other, "--output", "part"])
    same_files(here / "part", finished[0])


@pytest.mark.slow
def test_two_processes_count_each_video_once(
    here: Path, command: list[str], finished: tuple[Path, str]
) -> None:
    words = [*command, "--trainer.devices=2", "--trainer.strategy=ddp"]
    # Longer than a loaded machine needs, shorter than processes that wait for each other for ever.
    done = subprocess.run(
        [sys.executable, "-m", "vqa_lightning", *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (
        "DistributedSampler" not in done.stderr
    )  # nine videos for two: one is scored twice, and counts once
    same_files(here / "benchmark_report", finished[0])


def test_too_few_real_videos_have_scores_and_no_figures(
    here: Path, clips_folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = clips_folder.parent / "labels"
    lists = {
        "KoNViD-1k": labels / "dover_fastvqa" / "KoNViD_labels.txt",
        "LSVQ-test": labels / "dover_fastvqa" / "LSVQ_labels_test.txt",
        "NFLX-public": labels / "nflx" / "nflx_public.json",
    }
    sets = [{"name": name, "labels": str(path), "videos": str(clips_folder)} for name, path in lists.items()]
    words = ["test", "--ckpt_path", str(tiny_checkpoint), *QUIET, "--data", "BenchmarkDataModule"]
    main([*words, f"--data.sets={json.dumps(sets)}"])
    told = capsys.readouterr().out
    assert "KoNViD-1k: 1 scored: figures need 3 videos." in told
    assert "NFLX-public: 2 scored: figures need 3 videos." in told
    assert "W2S-VQA as published" not in told  # there is nothing to hold against it

    report = here / "benchmark_report"
    rows = rows_of(report / "benchmarks.csv")
    assert [(row["set"], row["n"]) for row in rows] == list(zip(lists, "112", strict=True))
    assert all(row["srcc"] == row["plcc"] == row["rmse_high"] == "" for row in rows)
    (konvid,) = rows_of(report / "KoNViD-1k" / "scores.csv")
    assert Path(konvid["path"]).name == "10053703034.mp4"
    assert float(konvid["mos"]) == pytest.approx(3.46, abs=0.005)  # as rounded where it is told
    (lsvq,) = rows_of(report / "LSVQ-test" / "scores.csv")
    assert float(lsvq["mos"]) == pytest.approx(56.09, abs=0.005)
    assert (report / "NFLX-public" / "scatter.png").is_file()
    assert not list(report.glob("*/human_scale.json"))


def test_a_set_whose_name_is_no_folders_is_refused(command: list[str], refused: Callable[..., str]) -> None:
    words = ["my/set" if word == "KoNViD-1k" else word for word in command]
    told = refused(main, [*words, "--data.higher_is_better=true"])
    assert "A set's name must be a folder's name, without slashes; got 'my/set'" in told
