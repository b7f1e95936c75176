"""benchmarks/carry_over.py: figures on made-up scores, versions of a made-up clip, and the whole script."""

import json
import math
import sys
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import carry_over
from carry_over_clips import chosen, fold_of, sources
from carry_over_fidelity import Row, clip_rows
from carry_over_figures import figures, ladder_shares
from carry_over_students import differences, held_out, ridge, standardised, two_layers
from carry_over_versions import CHAIN_CRF, CHAIN_SHARE, LEVELS, WITHOUT, area, pictures, stored, versions

from datamodules.errors import InputError
from datamodules.fidelity.libvmaf import find_ffmpeg
from vqa_lightning.metrics import srcc

CONTENTS = 6


def made_up(vmaf: bool = True) -> list[Row]:
    """Versions of six contents whose VMAF falls by 12 a level, from a height of its own for each content."""
    rows = []
    for content in range(CONTENTS):
        for version in versions(f"c{content}", ["x264", "blur"], chains=False):
            value = 100 - 12 * version.level - content
            name = f"c{content}", f"owner/{content // 2}", version.ladder, version.level, version.name
            rows.append(Row(*name, "", f"{content}{version.name}", value / 100, value if vmaf else None))
    return rows


def values(rows: list[Row]) -> np.ndarray:
    return np.array([row.ssim for row in rows])


def test_a_perfect_judge_has_every_pair_and_its_reverse_has_none() -> None:
    rows = made_up()
    right, wrong = (figures(sign * values(rows), rows, draws=20) for sign in (1, -1))
    assert right.ladders == {"x264": 1, "blur": 1}
    assert wrong.ladders == {"x264": 0, "blur": 0}
    for one, expected in ((right, 1.0), (wrong, 0.0)):
        assert one.mean == one.within == one.across == (expected, expected, expected)
    assert right.srcc_vmaf == right.srcc_ssim == pytest.approx((1, 1, 1))
    assert wrong.srcc_vmaf.value == pytest.approx(-1)
    assert right.versions == len(rows)


def test_a_constant_judge_is_at_chance_and_has_no_correlation() -> None:
    rows = made_up()
    found = figures(np.zeros(len(rows)), rows, draws=20)
    assert found.mean.value == found.within.value == found.across.value == 0.5
    assert math.isnan(found.srcc_vmaf.value)
    assert str(found.srcc_vmaf) == "-"
    assert found.plain()["srcc_vmaf"] == {"value": None, "low": None, "high": None}


def test_order_within_contents_is_told_apart_from_a_scale_across_them() -> None:
    rows = made_up()
    # Each content lies as a whole above the next, whatever its versions look like.
    given = values(rows) - 10 * np.array([int(row.clip[1:]) for row in rows])
    found = figures(given, rows, draws=20)
    assert found.mean.value == found.within.value == 1
    assert found.across.value == 0.5  # the content alone decides, and each comes first as often as last
    assert found.srcc_vmaf.value < 0.6


def test_one_swap_costs_one_pair_of_fifteen() -> None:
    rows = [row for row in made_up() if row.clip == "c0" and row.ladder in ("source", "x264")]
    names, shares = ladder_shares(np.array([5.0, 4, 3, 1, 2, 0]), rows)
    assert names == ["x264"]
    assert shares.tolist() == [[14 / 15]]


def test_shares_of_pairs_are_those_of_all_pairs_one_by_one() -> None:
    rows = made_up()
    given = np.random.default_rng(0).normal(size=len(rows)) + 3 * values(rows)
    counts = {"within": [0.0, 0], "across": [0.0, 0]}
    for one, first in enumerate(rows):
        for other, second in enumerate(rows):
            if first.vmaf - second.vmaf > 5:
                own = counts["within" if first.clip == second.clip else "across"]
                own[0] += (1 + np.sign(given[one] - given[other])) / 2
                own[1] += 1
    found = figures(given, rows, draws=50)
    assert found.within.value == pytest.approx(counts["within"][0] / counts["within"][1])
    assert found.across.value == pytest.approx(counts["across"][0] / counts["across"][1])
    assert found.across.low < found.across.value < found.across.high


def test_versions_without_a_score_or_vmaf_are_left_out_and_counted() -> None:
    rows = made_up(vmaf=False)
    given = values(rows)
    given[[1, 2]] = math.nan
    found = figures(given, rows, draws=20)
    assert (found.versions, found.missing) == (len(rows) - 2, 2)
    assert found.mean.value == 1
    assert found.srcc_ssim.value == pytest.approx(1)
    assert math.isnan(found.srcc_vmaf.value)
    assert math.isnan(found.within.value)


def test_ladders_rise_and_chains_follow_from_the_clip_and_stay_mild() -> None:
    found = versions("a.mp4")
    assert len(found) == 5 * len(LEVELS) + len(WITHOUT) + 1
    assert found == versions("a.mp4") != versions("b.mp4")
    assert all(list(levels) == sorted(set(levels)) and len(levels) == 5 for levels in LEVELS.values())
    for version in found:
        if version.ladder == "chain":
            (kind, strength), (encoder, crf) = version.steps
            reach = WITHOUT[kind] + CHAIN_SHARE * (LEVELS[kind][-1] - WITHOUT[kind])
            assert WITHOUT[kind] <= strength <= reach
            assert encoder == "x264"
            assert CHAIN_CRF[0] <= crf <= CHAIN_CRF[1]


def test_area_is_the_mean_of_whole_blocks_and_keeps_the_mean_of_parts() -> None:
    frames = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    halved = torch.nn.functional.avg_pool2d(frames, 2)
    assert torch.allclose(area(frames, 6, 8), halved, atol=1e-6)  # float32 sums in another order
    assert torch.allclose(area(frames, 5, 7).mean((-2, -1)), frames.mean((-2, -1)), atol=1e-6)


def test_repeated_frames_show_in_the_differences() -> None:
    moving = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    held = moving[[0, 0, 2, 2, 4, 4, 6, 6]]
    assert differences(moving)[3] == 0
    assert differences(held)[3] == pytest.approx(4 / 7)
    assert differences(moving[:1]).tolist() == [0] * 6


@pytest.mark.parametrize("repos", [["owner/0"], ["owner/0", "owner/1", "owner/2"]])
def test_students_never_learn_from_a_repository_that_they_judge(repos: list[str]) -> None:
    rows = made_up()
    judged = [row.repo in repos for row in rows]
    asked: list[int] = []
    for learnt, wanted in held_out(rows, judged):
        assert not {rows[place].repo for place in learnt} & {rows[place].repo for place in wanted}
        asked += wanted
    assert sorted(asked) == [place for place, one in enumerate(judged) if one]


def test_both_students_learn_an_order_that_features_hold() -> None:
    draw = np.random.default_rng(0)
    seen = draw.normal(size=(400, 12)).astype(np.float32)
    vmaf = 50 + 20 * seen[:, 0] - 10 * seen[:, 1]
    first, second = standardised(seen[:300], seen[300:])
    assert srcc(ridge(first, vmaf[:300], second), vmaf[300:]) > 0.95
    assert srcc(two_layers(first, vmaf[:300], second, steps=150), vmaf[300:]) > 0.9


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of moving noise, under names that the script knows, of a size that every encoder takes."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "clips").mkdir()
    for index, name in enumerate(("1724.mp4", "vsfa_test.mp4")):
        blocks = np.random.default_rng(index).integers(40, 216, (24, 32, 3), np.uint8)
        picture = blocks.repeat(4, axis=0).repeat(4, axis=1)
        with av.open(str(folder / "clips" / name), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "10", "preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
            for time in range(20):
                frame = av.VideoFrame.from_ndarray(np.roll(picture, 3 * time, axis=1), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return folder


def test_folds_part_the_clips_by_repository(data: Path) -> None:
    clips = sources(data)
    parts = [chosen(clips, f"{fold}/2", None) for fold in {fold_of(clip.repo, 2) for clip in clips}]
    assert sorted(clip.name for part in parts for clip in part) == sorted(clip.name for clip in clips)
    assert chosen(clips, "0,1/2", [clips[0].repo]) == [clips[0]]
    for wrong in ("2/2", "a/2", "1"):
        with pytest.raises(InputError, match="--fold must be like"):
            chosen(clips, wrong, None)


def test_versions_are_stored_as_they_were_made_and_made_once(data: Path, tmp_path: Path) -> None:
    clip = sources(data)[0]
    rows = clip_rows(clip, tmp_path, ["blur", "drop"], native=False, ffmpeg=None)
    assert [row.ladder for row in rows].count("chain") == len(WITHOUT)
    assert rows[0].ssim == 1
    blurred = [row.ssim for row in rows if row.ladder == "blur"]
    assert blurred == sorted(blurred, reverse=True)
    times = {row.file: Path(row.file).stat().st_mtime_ns for row in rows}
    again = clip_rows(clip, tmp_path, ["blur"], native=False, ffmpeg=None)
    assert again == [row for row in rows if row.ladder != "drop"]
    assert all(Path(file).stat().st_mtime_ns == time for file, time in times.items())

    kept = stored(Path(rows[0].file))
    assert len(kept) == 16
    frames = torch.randint(256, (2, 3, 96, 128), dtype=torch.uint8)
    assert pictures(frames)[0].to_ndarray().shape == kept[0].to_ndarray().shape
    held = [frame.to_ndarray() for frame in stored(Path(next(r.file for r in rows if r.name == "drop_8")))]
    assert all(any(np.array_equal(one, frame.to_ndarray()) for frame in kept) for one in held)
    assert sum(not np.array_equal(*pair) for pair in pairwise(held)) == 1


def test_the_script_prints_and_writes_its_figures(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(data), "--versions", str(tmp_path), "--jobs", "1", "--ladders", "blur", "x264"]
    file = tmp_path / "figures.json"
    carry_over.main([*words, "--json", str(file)])
    found = json.loads(file.read_text())
    assert found["settings"]["versions"] == 2 * 15
    laplacian = found["judges"]["laplacian"]
    assert set(laplacian["ladders"]) == {"blur", "x264"}
    assert laplacian["ladders"]["blur"] == 1  # a blur takes from the Laplacian what it takes
    assert (laplacian["srcc_vmaf"]["value"] is None) == (find_ffmpeg() is None)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    carry_over.main(words)
    assert capsys.readouterr().out == printed  # from what is kept


def test_a_checkpoint_that_cannot_be_loaded_ends_it_before_versions_are_made(
    data: Path, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=r"missing\.ckpt is not a file"):
        carry_over.main(
            ["--data", str(data), "--versions", str(tmp_path), "--checkpoint", str(tmp_path / "missing.ckpt")]
        )
    assert not list(tmp_path.iterdir())


def test_a_manifest_names_the_chosen_clips(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "tune.csv"
    carry_over.main(["--data", str(data), "--only-repos", "lidq92/VSFA", "--manifest", str(file)])
    header, row = file.read_text().splitlines()
    assert header == '"path","content","repo"'
    assert row.split(",")[1:] == ['"vsfa_test.mp4"', '"lidq92/VSFA"']
