import doctest
import inspect
import math
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.errors import InputError, UnreadableVideo
from datamodules.labels import LEVELS
from datamodules.video import Sampling, probe, read_clip
from datamodules.video.memory_video import memory_video
from vqa_lightning import Scorer
from vqa_lightning.annotators import scorer
from vqa_lightning.metrics.human_scale import HumanScale


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: Path) -> Scorer:
    return Scorer(tiny_checkpoint, device="cpu")


@pytest.fixture
def files(mixed_corpus: Path) -> list[Path]:
    return sorted(mixed_corpus.glob("*.mp4"))[:4]


class TestScore:
    def test_an_older_checkpoint_says_nothing_of_percentiles(
        self, tiny_checkpoint: Path, tmp_path: Path, files: list[Path], tiny: Scorer
    ) -> None:
        held = torch.load(tiny_checkpoint, weights_only=True)
        del held["state_dict"]["quantiles"]
        torch.save(held, tmp_path / "old.ckpt")
        (old,) = Scorer(tmp_path / "old.ckpt", device="cpu").score(files[0])
        assert (old.score, old.percentile) == (tiny.score(files[0])[0].score, None)

    def test_gives_a_score_for_each_in_order(self, tiny: Scorer, files: list[Path], tmp_path: Path) -> None:
        (tmp_path / "broken.mp4").write_bytes(b"no video")
        first, broken, second = tiny.score([files[0], tmp_path / "broken.mp4", str(files[1])])
        assert (first.path, second.path) == (str(files[0]), str(files[1]))
        assert first.status == second.status == "ok"
        assert first.score != second.score
        assert first.stderr > 0
        assert first.error == ""
        assert first.calibrated is None
        assert broken.status == "error"
        assert broken.error.endswith(".")
        assert math.isnan(broken.score)

    def test_is_the_same_in_any_company(self, tiny: Scorer, files: list[Path]) -> None:
        together = tiny.score(files)
        assert [tiny.score(file)[0] for file in reversed(files)] == together[::-1]

    def test_is_the_same_with_workers(self, tiny_checkpoint: Path, tiny: Scorer, files: list[Path]) -> None:
        assert Scorer(tiny_checkpoint, "cpu", workers=1).score(files[:2]) == tiny.score(files[:2])

    def test_is_the_same_from_many_threads(self, tiny: Scorer, files: list[Path]) -> None:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(tiny.score, files * 3))
        assert [row for (row,) in found] == tiny.score(files) * 3

    def test_takes_frames(self, tiny: Scorer, files: list[Path]) -> None:
        video = probe(files[0])
        whole = Sampling(frames=round(video.duration * video.fps), window=None)
        frames = read_clip(video, whole).frames
        assert len(frames) > 1
        rows = tiny.score([frames, frames / 255, files[0]], fps=video.fps)
        assert [row.status for row in rows] == ["ok"] * 3
        assert rows[0].path == ""
        assert rows[0] == rows[1]  # the same frames, whatever their type
        # The file's draws lie elsewhere: they follow from its bytes.
        assert rows[0].score == pytest.approx(rows[2].score, abs=5 * rows[2].stderr + 1)
        assert tiny.score(frames, fps=video.fps) == rows[:1]

    def test_refuses_what_is_no_video(self, tiny: Scorer) -> None:
        with pytest.raises(InputError, match="shape"):
            tiny.score(torch.zeros(3, 8, 8))

    def test_takes_arrays(self, tiny: Scorer) -> None:
        array = np.random.default_rng(0).integers(256, size=(6, 40, 48, 3), dtype=np.uint8)
        (row,) = tiny.score(torch.from_numpy(array).permute(0, 3, 1, 2))
        read_only = array.copy()
        read_only.flags.writeable = False
        alike = [array, array.transpose(0, 3, 1, 2), read_only, array[..., ::-1][..., ::-1], array / 255]
        assert tiny.score(alike) == [row] * len(alike)
        assert tiny.score(array) == [row]
        assert tiny.compare(array, array).probability == 0.5

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            (None, "got None"),
            (b"a.mp4", "got b'a.mp4'"),
            ([b"a.mp4"], "got b'a.mp4'"),
            ([], "got an empty list"),
            ({"a.mp4": 1}, "got {'a.mp4': 1}"),
            (np.zeros((8, 8, 3), np.uint8), "np.stack"),
            (np.zeros((2, 8, 8, 3), np.int64), "got int64"),
            (np.array(["a.mp4"]), r"got the shape \(1,\)"),
            (np.full((2, 8, 8, 3), 255.0), "floats from 255 to 255"),
            (np.zeros((0, 8, 8, 3), np.uint8), "shape"),
        ],
    )
    def test_says_what_is_taken(self, tiny: Scorer, given: Any, told: str) -> None:
        with pytest.raises(InputError, match=told):
            tiny.score(given)

    @pytest.mark.parametrize("fps", ["30", None, 0, -1.0, math.nan, math.inf, True, 1e-300, 10**400])
    def test_a_rate_is_a_number(self, tiny: Scorer, fps: Any) -> None:
        with pytest.raises(InputError, match="The frames per second must be a number"):
            tiny.score(np.zeros((4, 8, 8, 3), np.uint8), fps=fps)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"device": "gpu"},
            {"device": "meta"},
            {"device": None},
            {"workers": -1},
            {"workers": 1.5},
            {"checkpoint": None},
            {"calibration": 3},
        ],
    )
    def test_is_made_of_what_there_is(self, tiny_checkpoint: Path, wrong: dict[str, Any]) -> None:
        with pytest.raises(InputError, match=f"{next(iter(wrong))} must be .*; got "):
            Scorer(**{"checkpoint": tiny_checkpoint, "device": "cpu", **wrong})

    def test_an_address_and_a_name_that_is_too_long_are_rows(self, tiny: Scorer) -> None:
        rows = tiny.score(["https://a.b/c.mp4", Path("https://a.b/c.mp4"), "n" * 300, "a\0b", ""])
        told = ["is an address", "is an address", "File name too long", "null", "not a file"]
        assert all(part in row.error for part, row in zip(told, rows, strict=True))

    def test_a_folder_is_no_video(self, tiny: Scorer, mixed_corpus: Path) -> None:
        (row,) = tiny.score(mixed_corpus)
        assert row.status == "error"
        assert "not a file" in row.error

    def test_pairwise_scores_need_only_the_checkpoint(
        self, save_checkpoint: Callable[..., Path], tmp_path: Path, files: list[Path]
    ) -> None:
        path = save_checkpoint(tmp_path / "pairs.ckpt", "score_by=pairwise")
        rows = Scorer(path, "cpu").score(files[:2])
        assert [row.status for row in rows] == ["ok", "ok"]
        assert rows == Scorer(path, "cpu").score(files[:2])


class TestCompare:
    def test_agrees_with_the_scores(self, tiny: Scorer, files: list[Path]) -> None:
        found = tiny.compare(files[0], files[1])
        assert [found.first, found.second] == tiny.score(files[:2])
        gap = found.second.score - found.first.score
        joint = math.hypot(found.first.stderr, found.second.stderr)
        # Phi as the standard library has it.
        expected = (1 + math.erf(gap / joint / math.sqrt(2))) / 2
        assert found.probability == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("judgements", ["[pairwise,pointwise]", "[pointwise]"])
    def test_gives_distributions_in_both_orders(
        self, save_checkpoint: Callable[..., Path], tmp_path: Path, files: list[Path], judgements: str
    ) -> None:
        path = save_checkpoint(tmp_path / "last.ckpt", f"judgements={judgements}")
        found = Scorer(path, "cpu").compare(files[0], files[1])
        swapped = Scorer(path, "cpu").compare(files[1], files[0])
        for levels in (found.levels_ab, found.levels_ba):
            assert tuple(levels) == LEVELS
            assert sum(levels.values()) == pytest.approx(1, abs=1e-6)  # float32
        # Another place in the batch: float32 sums in another order.
        assert list(found.levels_ab.values()) == pytest.approx(list(swapped.levels_ba.values()), abs=1e-5)
        assert found.probability == pytest.approx(1 - swapped.probability, abs=1e-12)

    def test_a_video_beside_itself_is_even(self, tiny: Scorer, files: list[Path]) -> None:
        found = tiny.compare(files[0], files[0])
        assert found.probability == 0.5
        assert found.levels_ab == pytest.approx(found.levels_ba, abs=1e-5)  # two rows of one batch

    def test_frames_of_two_sizes(self, save_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
        path = save_checkpoint(tmp_path / "last.ckpt", "sampling={segments: 1, frames: 2, window: null}")
        clips = [torch.randint(256, (6, 3, side, 48), dtype=torch.uint8) for side in (40, 64)]
        found = Scorer(path, "cpu").compare(*clips)
        assert 0 <= found.probability <= 1

    def test_an_unreadable_one_is_told(self, tiny: Scorer, files: list[Path], tmp_path: Path) -> None:
        with pytest.raises(UnreadableVideo, match=r"absent\.mp4 is missing"):
            tiny.compare(files[0], tmp_path / "absent.mp4")


class TestEncodes:
    def test_scores_and_errors_are_those_of_each_by_itself(self, tiny: Scorer, files: list[Path]) -> None:
        found = tiny.score_encodes(files[:2])
        alone = tiny.score(files[:2])
        assert found.scores.tolist() == [row.score for row in alone]
        assert found.stderr.tolist() == pytest.approx([row.stderr for row in alone], rel=1e-5)  # float32
        assert found.over_time.shape == (2, 0)

    def test_an_encode_beside_itself_does_not_differ(self, tiny: Scorer, files: list[Path]) -> None:
        change = tiny.score_encodes([files[0], files[0]], every=0.2).difference(0, 1)
        assert change.value == 0
        assert change.probability == 0.5
        # Only what is each encode's own is left of the errors: the floor.
        floor = 10 * tiny._module.scale[3].item() / tiny._module.scale[1].item()
        assert change.stderr == pytest.approx(math.sqrt(2) * floor, rel=1e-4)

    def test_are_compared_as_long_as_the_shortest(
        self, tiny: Scorer, files: list[Path], tmp_path: Path
    ) -> None:
        video = probe(files[0])
        whole = read_clip(video, Sampling(frames=round(video.duration * video.fps), window=None)).frames
        short = memory_video(whole[:6], video.fps)
        found = tiny.score_encodes([video, short], every=0.1)
        assert found.edges.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.24])
        assert found.over_time.shape == (2, 3)
        assert found.scores[0] != tiny.score(files[0])[0].score

    def test_one_that_cannot_be_read_is_told_and_stops_nothing(
        self, tiny: Scorer, files: list[Path], tmp_path: Path
    ) -> None:
        (tmp_path / "broken.mp4").write_bytes(b"no video")
        found = tiny.score_encodes([files[0], tmp_path / "broken.mp4", files[1]], every=0.2)
        assert [bool(error) for error in found.errors] == [False, True, False]
        assert math.isnan(found.scores[1])
        alone = tiny.score_encodes([files[0], files[1]], every=0.2)
        assert found.difference(0, 2) == alone.difference(0, 1)
        assert all(
            (a == b).all() for a, b in zip(found.differences(0, 2), alone.differences(0, 1), strict=True)
        )


class TestCalibration:
    def scale(self, model: str) -> HumanScale:
        return HumanScale("mos", model, b1=5.0, b2=1.0, b3=50.0, b4=10.0, n=9, srcc=0.9, rmse=0.2)

    def test_is_written_beside_the_score(
        self, tiny: Scorer, tiny_checkpoint: Path, files: list[Path], tmp_path: Path
    ) -> None:
        scale = self.scale(tiny.model)
        scale.save(tmp_path / "scale.json")
        (row,) = Scorer(tiny_checkpoint, "cpu", calibration=tmp_path / "scale.json").score(files[0])
        assert row.calibrated == float(scale(row.score))
        assert Scorer(tiny_checkpoint, "cpu", calibration=scale).score(files[0]) == [row]

    def test_of_another_model_is_refused(self, tiny_checkpoint: Path) -> None:
        with pytest.raises(InputError, match="was fitted for RankingModule-0"):
            Scorer(tiny_checkpoint, "cpu", calibration=self.scale("RankingModule-0"))


def test_the_example_runs(
    tiny_checkpoint: Path, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, source in (("last.ckpt", tiny_checkpoint), ("a.mp4", files[0]), ("b.mp4", files[1])):
        shutil.copy(source, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert "Example:" in inspect.getdoc(Scorer) or ""
    (test,) = doctest.DocTestFinder(recurse=False).find(Scorer, "Scorer", module=scorer)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0
