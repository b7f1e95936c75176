import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.io import savemat

from datamodules.errors import InputError
from datamodules.opinions import Opinions, read_opinions

LABELS = Path(__file__).resolve().parents[3].parent / "shared/data/labels"
needs_labels = pytest.mark.skipif(not LABELS.is_dir(), reason=f"the published lists are not at {LABELS}")


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def mos_of(opinions: Opinions, name: str) -> float:
    return float(opinions.mos[opinions.names.index(name)])


@needs_labels
class TestPublishedLists:
    @pytest.mark.parametrize(
        ("list_", "count", "name", "mos"),
        [
            ("bvqa_benchmark/KONVID_1K_metadata.csv", 1200, "3339962845", 4.64),
            ("bvqa_benchmark/LIVE_VQC_metadata.csv", 585, "A001.mp4", 80.232),
            ("bvqa_benchmark/YOUTUBE_UGC_metadata.csv", 1380, "Animation_1080P-01b3", 3.649),
            ("dover_fastvqa/CVD2014_labels.txt", 234, "Test3/City/Test03_City_D12.avi", 20.65),
            ("dover_fastvqa/KoNViD_labels.txt", 1200, "KoNViD_1k_videos/10053703034.mp4", 3.46),
            (
                "dover_fastvqa/LIVE_Qualcomm_labels.txt",
                208,
                "Focus/1024_TableTennisAtBalboa_HTCOneVx_VIDEO0138.yuv",
                41.64888182462034,
            ),
            ("dover_fastvqa/LIVE_VQA_labels.txt", 148, "pa/pa2_25fps.yuv", 44.5104),
            ("dover_fastvqa/LIVE_VQC_labels.txt", 585, "Video/A001.mp4", 80.232),
            ("dover_fastvqa/LSVQ_labels_1080p.txt", 3573, "yfcc-batch1/722.mp4", 78.7741935483871),
            ("dover_fastvqa/LSVQ_labels_test.txt", 7186, "yfcc-batch3/1724.mp4", 56.09375),
            ("dover_fastvqa/YouTubeUGC_labels.txt", 1147, "Sports_2160P-4e9f_crf_10_ss_00_t_20.0.mp4", 4.405),
            ("dover_fastvqa/train_labels.txt", 28056, "yfcc-batch1/725.mp4", 76.84375),
            ("minimalisticvqa/CVD2014_data.mat", 234, "Test01_City_D01", 71.0),
            ("minimalisticvqa/LIVEYTGaming.mat", 600, "ARKSuvivalEvolved-001", 68.71447485733962),
            ("minimalisticvqa/k150kb_scores.csv", 1576, "orig_10007436115_540_5s.mp4", 3.53),
            ("nflx/nflx_public.json", 79, "BigBuckBunny_20_288_375.yuv", 34 / 26),
            ("w2s/CGVDS_total_score.json", 357, "Overwatch_30_30fps_640x480_30_300_h264_nvenc.mp4", 2.09),
            ("w2s/Konvid-1k_total_ds_score.json", 1200, "8129160337.mp4", 62.4),
            ("w2s/LIVE-VQC_total_ds_score.json", 585, "B155.mp4", 43.497),
            ("w2s/LIVE-YT-Gaming_total_score.json", 600, "ARKSuvivalEvolved-001.mp4", 68.71447486),
            ("w2s/LSVQ_whole_test_1080p_ds_score.json", 3573, "yfcc-batch1/722.mp4", 78.7741935483871),
            ("w2s/LSVQ_whole_test_ds_score.json", 7182, "yfcc-batch1/752.mp4", 50.90322581),
            ("w2s/Waterloo_IVC_4K_total_score2.json", 1200, "HEVC_01_960x540_1.mp4", 18.21),
            ("w2s/kvq_train_score.json", 2926, "0001.mp4", 3.361111111),
            ("w2s/live_hfr_total_score.json", 480, "1Runner_crf_0_24fps.mp4", 43.02495047),
            ("w2s/youtube_ugc_total.json", 1020, "Animation_1080P-05f8_crf_10_ss_00_t_20.0.mp4", 3.901),
        ],
    )
    def test_are_read_as_they_are(self, list_: str, count: int, name: str, mos: float) -> None:
        opinions = read_opinions(LABELS / list_)
        assert len(opinions.names) == len(opinions.mos) == count
        assert mos_of(opinions, name) == pytest.approx(mos, rel=1e-12)  # sums of votes may round

    def test_every_file_is_read_or_said_why_not(self) -> None:
        (marks,) = (m for m in self.test_are_read_as_they_are.pytestmark if m.name == "parametrize")  # type: ignore[attr-defined]
        read = {case[0] for case in marks.args[1]}
        assert {path.relative_to(LABELS).as_posix() for path in LABELS.glob("*/*")} - read == {
            "dover_fastvqa/MSU_Benchmark_labels.txt",  # gives three videos two scores each
            "nflx/vqeghd3.json",  # see the screening
            "w2s/example_pairs.json",  # pairs
        }

    def test_a_spread_and_a_number_of_votes_are_read_where_they_are(self) -> None:
        opinions = read_opinions(LABELS / "bvqa_benchmark/YOUTUBE_UGC_metadata.csv")
        assert (opinions.deviation[0], opinions.votes[0]) == (0.468, 125)
        assert np.isfinite(opinions.deviation).all()
        chunk = read_opinions(LABELS / "bvqa_benchmark/YOUTUBE_UGC_metadata.csv", mos_column="MOSChunk00")
        assert chunk.mos[0] == 3.604
        assert np.isnan(chunk.deviation).all()  # stdFull is another score's
        assert np.isnan(read_opinions(LABELS / "minimalisticvqa/LIVEYTGaming.mat").deviation).all()

    def test_raw_votes_give_what_sureal_gives(self) -> None:
        """Its own tests state these means of MOS, of standard errors and of deviations for this file."""
        opinions = read_opinions(LABELS / "nflx/nflx_public.json", screening=False)
        stderr = opinions.deviation / np.sqrt(opinions.votes)
        for found, stated in (
            (opinions.mos, 3.544790652385589),
            (stderr, 0.12986637295658307),
            (opinions.deviation, 0.6621911698651353),
        ):
            assert found.mean() == pytest.approx(stated, rel=1e-12)  # the order of a float64 sum
        assert set(opinions.votes) == {26}

    def test_erratic_observers_are_screened_out(self) -> None:
        path = LABELS / "nflx/vqeghd3.json"
        screened, everyone = read_opinions(path), read_opinions(path, screening=False)
        assert (screened.rejected, everyone.rejected) == ((12,), ())
        votes = np.array([row["opinion_scores"] for row in json.loads(path.read_text())])
        assert np.allclose(screened.mos, np.delete(votes, 12, axis=1).mean(axis=1), rtol=1e-12)
        assert set(screened.votes) == {23}
        assert read_opinions(LABELS / "nflx/nflx_public.json").rejected == ()

    def test_a_differential_score_beside_votes_is_read_by_its_name(self) -> None:
        opinions = read_opinions(LABELS / "nflx/nflx_public.json", mos_column="dmos")
        assert mos_of(opinions, "Seeking_10_288_375.yuv") == pytest.approx(19.2, abs=0.05)  # as rounded there
        assert mos_of(opinions, "Seeking_30_480_1050.yuv") == pytest.approx(41.7, abs=0.05)
        assert np.isnan(opinions.deviation).all()

    def test_where_lower_is_better_the_sign_is_turned(self) -> None:
        opinions = read_opinions(LABELS / "dover_fastvqa/LIVE_VQA_labels.txt", higher_is_better=False)
        assert mos_of(opinions, "pa/pa2_25fps.yuv") == -44.5104

    def test_two_scores_of_one_video_are_refused_or_averaged(self) -> None:
        path = LABELS / "dover_fastvqa/MSU_Benchmark_labels.txt"
        with pytest.raises(InputError, match=r"names distorted_videos/blue_hair/.* twice"):
            read_opinions(path)
        opinions = read_opinions(path, average_repeated=True)
        assert len(opinions.names) == 1022 - 3
        name = "distorted_videos/blue_hair/enc_res_x264_mv_offline_2k_blue_hair_31.mp4"
        assert mos_of(opinions, name) == pytest.approx((4.189644835485958 + 4.625323443676742) / 2, rel=1e-12)

    def test_a_list_without_opinions_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"must have .* and one of the columns mos, "):
            read_opinions(LABELS / "w2s/example_pairs.json")


class TestLayouts:
    def test_all_say_the_same(self, tmp_path: Path) -> None:
        rows = [
            {"name": "x.mp4", "mos": 3.5, "std": 0.5, "votes": 9},
            {"name": "y.mp4", "mos": 2.0, "std": None, "votes": None},
        ]
        text = "name, MOS, std, votes\n\nx.mp4, 3.5, 0.5, 9\ny.mp4, 2, NaN,\n,,,\n"
        paths = [
            written(tmp_path / "list.csv", text),
            written(tmp_path / "list.json", json.dumps(rows)),
            tmp_path / "list.parquet",
            tmp_path / "list.mat",
        ]
        pq.write_table(pa.Table.from_pylist(rows), paths[2])
        columns = {
            key: np.array([np.nan if row[key] is None else row[key] for row in rows], dtype=dtype)
            for key, dtype in (("name", object), ("mos", float), ("std", float), ("votes", float))
        }
        savemat(paths[3], columns)
        for path in paths:
            opinions = read_opinions(path)
            assert opinions.names == ["x.mp4", "y.mp4"]
            assert opinions.mos.tolist() == [3.5, 2.0]
            assert opinions.deviation.tolist() == pytest.approx([0.5, np.nan], nan_ok=True)
            assert opinions.votes.tolist() == pytest.approx([9, np.nan], nan_ok=True)

    def test_a_vote_not_cast_does_not_count(self, tmp_path: Path) -> None:
        rows = [
            {"name": "x", "opinion_scores": [1, None, 3]},
            {"name": "y", "opinion_scores": [None, 4, None]},
        ]
        opinions = read_opinions(written(tmp_path / "s.json", json.dumps(rows)))
        assert opinions.mos.tolist() == [2, 4]
        assert opinions.deviation.tolist() == pytest.approx([np.sqrt(2), np.nan], nan_ok=True)
        assert opinions.votes.tolist() == [2, 1]

    def test_named_columns_win(self, tmp_path: Path) -> None:
        path = written(tmp_path / "s.csv", "name,clip,mos,sharpness\na,x,1,2\n")
        opinions = read_opinions(path, name_column="clip", mos_column="sharpness")
        assert (opinions.names, opinions.mos.tolist()) == (["x"], [2])


class TestWrongLists:
    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("s.csv", "clip,mark\nx,1", "got the columns clip, mark: .* by name_column and mos_column"),
            ("s.csv", "", "got no rows"),
            ("s.csv", "name,mos\n", "got no rows"),
            ("s.csv", "name,mos\nx,1\ny,good", "MOS of y in .* must be a finite number; got 'good'"),
            ("s.csv", "name,mos\nx,", "MOS of x in .* must be a finite number; got ''"),
            ("s.txt", "x.mp4, -1, -1, 3\ny.mp4, -1, -1, nan", "MOS of y.mp4 in .*; got 'nan'"),
            ("s.csv", "name,mos\nx,1\nx,2", "names x twice"),
            ("s.csv", "name,mos\n,1", "a row without a name, number 1"),
            (
                "s.csv",
                "name,mos,std\nx,1,-1",
                "standard deviation of x in .* must be 0 or more, or empty; got '-1'",
            ),
            ("s.json", '[{"name": "x", "opinion_scores": [1, "?"]}]', r"vote of x in .*; got '\?'"),
            ("s.json", '[{"name": "x", "opinion_scores": [null]}]', "no vote for x that counts"),
            (
                "s.json",
                '[{"name": "x", "opinion_scores": [1, 2]}, {"name": "y", "opinion_scores": [1]}]',
                r"votes of y in .* must be as many as those of x, .*; got \[1\]",
            ),
            ("s.json", '[{"name": "x", "opinion_scores": []}]', r"votes of x in .*; got \[\]"),
            ("s.json", '[{"name": "x", "mos": true}]', "MOS of x in .*; got True"),
            (
                "s.json",
                '[{"name": "x", "mos": [1, 2]}, {"name": "y", "mos": [3, 4]}]',
                "MOS of x in .*; got .1",
            ),
            ("s.json", '[{"name": {"x": 1}, "mos": 1}]', "names in .* must be text; got .* in row 1"),
            ("s.json", '[{"name": "x", "mos": 1, "mos": 2}]', "has the key mos twice"),
            ("s.json", "[" * 100_000, "nested too deeply"),
            ("s.csv", "name,mos\nx,3.5 dB", "MOS of x in .*; got '3.5 dB'"),
            ("s.csv", "name,mos\nx,1_000", "MOS of x in .*; got '1_000'"),
            ("s.csv", "name,mos\nx,1e300", r"MOS of x in .* must be from -1e\+09 to 1e\+09; got '1e300'"),
            ("s.csv", "name,mos,mos\nx,1,2", "has the column mos more than once"),
            ("s.csv", "name,mos\nx,y.mp4,3", "row 1 has 3 cells under 2 columns"),
            ("s.json", "[", "cannot be read"),
            ("s.mat", "no MATLAB", "cannot be read"),
            ("s.mat", "MATLAB 7.3 MAT-file".ljust(124) + "\0\2IM" + "\0" * 64, "cannot be read .*HDF"),
            ("s.xlsx", "", "got the suffix '.xlsx'"),
        ],
    )
    def test_are_one_sentence(self, tmp_path: Path, name: str, text: str, message: str) -> None:
        path = written(tmp_path / name, text)
        with pytest.raises(InputError, match=message) as caught:
            read_opinions(path)
        sentence = str(caught.value)
        assert str(path) in sentence
        assert "\n" not in sentence
        assert sentence.endswith(".")

    def test_an_absent_file_is_one_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"absent\.csv cannot be read \(.*No such file"):
            read_opinions(tmp_path / "absent.csv")

    def test_a_column_that_is_not_there(self, tmp_path: Path) -> None:
        path = written(tmp_path / "s.csv", "name,mos\nx,1")
        with pytest.raises(
            InputError, match=r"must have .* and the column 'MOSFull'; got the columns name, mos: "
        ):
            read_opinions(path, mos_column="MOSFull")

    def test_columns_of_two_lengths(self, tmp_path: Path) -> None:
        path = tmp_path / "s.mat"
        savemat(path, {"name": np.array(["x", "y"], dtype=object), "mos": np.array([1.0, 2.0, 3.0])})
        with pytest.raises(InputError, match="got 2 of name and 3 of mos"):
            read_opinions(path)
