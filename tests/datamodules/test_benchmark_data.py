import re
import shutil
from fractions import Fraction
from pathlib import Path

import av
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from datamodules.batches import VideoBatch
from datamodules.benchmark_data import BenchmarkDataModule, BenchmarkSet
from datamodules.errors import InputError
from datamodules.video import Sampling
from vqa_lightning.scoring import Scoring

LABELS = Path(__file__).resolve().parents[2].parent / "shared/data/labels"


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def listed(path: Path, *names: str) -> str:
    """A list with the MOS 1, 2, 3, ..."""
    return written(path, "name,mos\n" + "".join(f"{name},{mos}\n" for mos, name in enumerate(names, 1)))


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = 8000, Fraction(1, 8000)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")  # sentences of the table's notes in one line


@pytest.fixture
def folder(mixed_corpus: Path, tmp_path: Path) -> Path:
    """Videos a, b, c, one that is only sound and one that is nothing."""
    place = tmp_path / "videos"
    place.mkdir()
    for index, name in enumerate("abc"):
        shutil.copy(mixed_corpus / f"video-{index}.mp4", place / f"{name}.mp4")
    write_sound(place / "sound.mp4")
    (place / "broken.mp4").write_bytes(b"no video")
    return place


def ready(*sets: BenchmarkSet, allow_missing: bool = True) -> BenchmarkDataModule:
    data = BenchmarkDataModule(sets=list(sets), allow_missing=allow_missing, workers=0)
    data.setup("test")
    return data


class TestCheck:
    def test_a_folder_is_held_against_its_list(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        labels = listed(tmp_path / "list.csv", "b.mp4", "x.mp4", "sound.mp4", "a.mp4", "y.mp4")
        data = ready(BenchmarkSet("mine", labels, str(folder), higher_is_better=True))
        (check,) = data.checks
        assert [check.opinions.names[row] for row in check.found] == ["b.mp4", "a.mp4"]
        assert check.missing == ["x.mp4", "y.mp4"]
        assert [Path(video.path).name for video in check.unreadable] == ["sound.mp4"]
        assert [Path(video.path).name for video in check.unlisted] == ["broken.mp4", "c.mp4"]
        told = capsys.readouterr().out
        assert ["mine", "5", "2", "2", "1", "2"] in [
            [cell.strip() for cell in line.strip("│").split("│")] for line in told.splitlines() if "│" in line
        ]
        assert "mine: missing: x.mp4, y.mp4" in told
        assert re.search(r"mine: unreadable: .*sound\.mp4 has no video stream\n", told)
        assert "mine: unlisted: broken.mp4, c.mp4" in told

    def test_another_number_of_rows_than_any_known_list_is_said(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ready(BenchmarkSet("KoNViD-1k", listed(tmp_path / "list.csv", "a", "b"), str(folder)))
        assert "KoNViD-1k: 2 rows, as in no known list: 1200 (FAST-VQA/DOVER)" in capsys.readouterr().out

    def test_an_incomplete_set_is_refused_on_request(self, folder: Path, tmp_path: Path) -> None:
        asked = BenchmarkSet("mine", listed(tmp_path / "list.csv", "a", "x", "sound"), str(folder), True)
        with pytest.raises(InputError, match=r"mine lacks 2 of its 3 videos, .*allow_missing"):
            ready(asked, allow_missing=False)
        complete = BenchmarkSet("mine", listed(tmp_path / "list.csv", "a", "b"), str(folder), True)
        assert len(ready(complete, allow_missing=False).labels) == 2

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (
                ("x.mp4", "y.mp4"),
                r"Not one of the 2 names in .*list\.csv .* name is x\.mp4, .* video .*a\.mp4",
            ),
            (
                ("sound.mp4", "broken.mp4"),
                r"Not one of the 2 videos in .* can be read; the first: .*sound\.mp4",
            ),
        ],
    )
    def test_where_nothing_fits_both_places_are_named(
        self, folder: Path, tmp_path: Path, names: tuple[str, ...], message: str
    ) -> None:
        asked = BenchmarkSet("mine", listed(tmp_path / "list.csv", *names), str(folder), True)
        with pytest.raises(InputError, match=message) as caught:
            ready(asked)
        assert "\n" not in str(caught.value)

    def test_all_lists_are_read_before_a_folder_is(self, tmp_path: Path) -> None:
        good = BenchmarkSet("one", listed(tmp_path / "list.csv", "a"), str(tmp_path / "absent"), True)
        bad = BenchmarkSet("two", written(tmp_path / "bad.csv", "name,mos\na,good"), "absent", True)
        with pytest.raises(InputError, match=r"MOS of a in .* must be a finite number; got 'good'"):
            ready(good, bad)


class TestSign:
    def test_a_known_set_brings_its_own(self, folder: Path, tmp_path: Path) -> None:
        labels = listed(tmp_path / "list.csv", "a", "b")
        assert [label.mos for label in ready(BenchmarkSet("LIVE-VQA", labels, str(folder))).labels] == [
            -1,
            -2,
        ]
        turned = ready(BenchmarkSet("LIVE-VQA", labels, str(folder), higher_is_better=True))
        assert [label.mos for label in turned.labels] == [1, 2]

    def test_another_must_be_told(self, folder: Path, tmp_path: Path) -> None:
        labels = listed(tmp_path / "list.csv", "a", "b")
        with pytest.raises(InputError, match=r"The set mine is not among the known .* set higher_is_better"):
            ready(BenchmarkSet("mine", labels, str(folder)))
        told = ready(BenchmarkSet("mine", labels, str(folder), higher_is_better=False))
        assert [label.mos for label in told.labels] == [-1, -2]


class Recorder(pl.LightningModule):
    """Notes which rows come, as a model that scores would."""

    sampling = score_sampling = Sampling(1, 2, None, 32)
    scoring = Scoring(draws=3)

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.shapes: set[torch.Size] = set()

    def test_step(self, batch: VideoBatch, batch_idx: int) -> None:
        self.seen += [*batch.rows, *batch.errors]
        self.shapes |= {clips.shape for clips in batch.clips}


class TestBatches:
    def test_a_video_of_two_sets_comes_once_with_a_label_of_each(self, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder, tmp_path / "again")
        votes = written(tmp_path / "votes.json", '[{"name": "b", "opinion_scores": [2, 4]}]')
        data = ready(
            BenchmarkSet("one", listed(tmp_path / "list.csv", "a", "b"), str(folder), True),
            BenchmarkSet("two", votes, str(tmp_path / "again"), True),
        )
        assert [(label.set, label.name, label.mos, label.row) for label in data.labels] == [
            ("one", "a", 1, 0),
            ("one", "b", 2, 1),
            ("two", "b", 3, 1),
        ]
        assert (data.labels[2].deviation, data.labels[2].votes) == (np.sqrt(2), 2)
        assert np.isnan(data.labels[0].deviation)
        assert Path(data.labels[2].video.path).parent.name == "again"

        model = Recorder()
        trainer = pl.Trainer(
            accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
        )
        trainer.test(model, datamodule=data, verbose=False)
        assert sorted(model.seen) == [0, 1]
        assert [data.pending[row].path for row in (0, 1)] == [str(folder / "a.mp4"), str(folder / "b.mp4")]
        assert model.shapes == {torch.Size([3, 2, 3, 32, 32])}

    def test_versions_of_a_scene_are_known_from_a_manifest(self, folder: Path, tmp_path: Path) -> None:
        manifest = written(folder / "manifest.csv", "path,content\na.mp4,scene\nb.mp4,scene\nc.mp4,other\n")
        data = ready(BenchmarkSet("mine", listed(tmp_path / "l.csv", "a", "b", "c"), manifest, True))
        assert [label.video.content for label in data.labels] == ["scene", "scene", "other"]


# https://github.com/Lightning-AI/pytorch-lightning/issues/21900: the call that Lightning makes
@pytest.mark.filterwarnings("ignore:(?s).*instantiate_classes:DeprecationWarning")
class TestSettings:
    def parsed(self, *args: str) -> BenchmarkDataModule:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--config", action="config")
        parser.add_class_arguments(BenchmarkDataModule, "data")
        data = parser.instantiate_classes(parser.parse_args(list(args))).data
        assert isinstance(data, BenchmarkDataModule)
        return data

    def test_one_set_on_the_command_line(self) -> None:
        words = ["--data.benchmark=KoNViD-1k", "--data.labels=list.txt", "--data.videos=folder"]
        assert self.parsed(*words).sets == [BenchmarkSet("KoNViD-1k", "list.txt", "folder")]

    def test_several_in_a_config(self, tmp_path: Path) -> None:
        sets = [
            {"name": "KoNViD-1k", "labels": "k.txt", "videos": "k"},
            {
                "name": "mine",
                "labels": "m.json",
                "videos": "m",
                "higher_is_better": False,
                "mos_column": "dmos",
            },
        ]
        config = written(tmp_path / "c.yaml", yaml.safe_dump({"data": {"sets": sets}}))
        assert self.parsed(f"--config={config}").sets == [
            BenchmarkSet("KoNViD-1k", "k.txt", "k"),
            BenchmarkSet("mine", "m.json", "m", False, mos_column="dmos"),
        ]

    def test_half_a_set_or_two_of_one_name_are_one_sentence(self) -> None:
        with pytest.raises(InputError, match=r"data\.videos is not given"):
            BenchmarkDataModule("KoNViD-1k", labels="list.txt")
        twice = [BenchmarkSet("mine", "a.csv", "a"), BenchmarkSet("mine", "b.csv", "b")]
        with pytest.raises(InputError, match="two sets named mine"):
            BenchmarkDataModule(sets=twice)
        with pytest.raises(InputError, match=r"data\.sets and data\.labels are given"):
            BenchmarkDataModule(labels="list.txt", sets=twice[:1])


class TestRealClips:
    def test_the_clips_at_hand_are_found_in_their_published_lists(self, clips_folder: Path) -> None:
        data = ready(
            BenchmarkSet("KoNViD-1k", str(LABELS / "dover_fastvqa/KoNViD_labels.txt"), str(clips_folder)),
            BenchmarkSet("LSVQ-test", str(LABELS / "w2s/LSVQ_whole_test_ds_score.json"), str(clips_folder)),
            BenchmarkSet("NFLX-public", str(LABELS / "nflx/nflx_public.json"), str(clips_folder)),
        )
        assert [check.release for check in data.checks] == ["FAST-VQA/DOVER", "W2S-VQA", "VMAF/SUREAL"]
        assert [(label.set, Path(label.video.path).name) for label in data.labels] == [
            ("KoNViD-1k", "10053703034.mp4"),
            ("LSVQ-test", "1724.mp4"),
            ("NFLX-public", "Seeking_10_288_375.mp4"),
            ("NFLX-public", "Seeking_30_480_1050.mp4"),
        ]
        assert data.labels[0].mos == 3.46
        assert data.labels[2].mos < data.labels[3].mos
