import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from datamodules.opinions import BENCHMARKS, Opinions, read_opinions

LABELS = Path(__file__).resolve().parents[3].parent / "shared/data/labels"
needs_labels = pytest.mark.skipif(not LABELS.is_dir(), reason=f"the published lists are not at {LABELS}")

LISTS = {
    "bvqa_benchmark/KONVID_1K_metadata.csv": ("KoNViD-1k", "BVQA_Benchmark"),
    "bvqa_benchmark/LIVE_VQC_metadata.csv": ("LIVE-VQC", "BVQA_Benchmark"),
    "bvqa_benchmark/YOUTUBE_UGC_metadata.csv": ("YouTube-UGC", "BVQA_Benchmark"),
    "dover_fastvqa/CVD2014_labels.txt": ("CVD2014", "FAST-VQA/DOVER"),
    "dover_fastvqa/KoNViD_labels.txt": ("KoNViD-1k", "FAST-VQA/DOVER"),
    "dover_fastvqa/LIVE_Qualcomm_labels.txt": ("LIVE-Qualcomm", "FAST-VQA/DOVER"),
    "dover_fastvqa/LIVE_VQA_labels.txt": ("LIVE-VQA", "FAST-VQA/DOVER"),
    "dover_fastvqa/LIVE_VQC_labels.txt": ("LIVE-VQC", "FAST-VQA/DOVER"),
    "dover_fastvqa/LSVQ_labels_1080p.txt": ("LSVQ-1080p", "FAST-VQA/DOVER"),
    "dover_fastvqa/LSVQ_labels_test.txt": ("LSVQ-test", "FAST-VQA/DOVER"),
    "dover_fastvqa/MSU_Benchmark_labels.txt": ("CVQAD", "FAST-VQA/DOVER"),
    "dover_fastvqa/YouTubeUGC_labels.txt": ("YouTube-UGC", "FAST-VQA/DOVER"),
    "dover_fastvqa/train_labels.txt": ("LSVQ-train", "FAST-VQA/DOVER"),
    "minimalisticvqa/CVD2014_data.mat": ("CVD2014", "MinimalisticVQA"),
    "minimalisticvqa/LIVEYTGaming.mat": ("LIVE-YT-Gaming", "MinimalisticVQA"),
    "minimalisticvqa/k150kb_scores.csv": ("KoNViD-150k-B", "MinimalisticVQA"),
    "nflx/nflx_public.json": ("NFLX-public", "VMAF/SUREAL"),
    "nflx/vqeghd3.json": ("VQEG-HD3", "VMAF/SUREAL"),
    "w2s/CGVDS_total_score.json": ("CGVDS", "W2S-VQA"),
    "w2s/Konvid-1k_total_ds_score.json": ("KoNViD-1k", "W2S-VQA"),
    "w2s/LIVE-VQC_total_ds_score.json": ("LIVE-VQC", "W2S-VQA"),
    "w2s/LIVE-YT-Gaming_total_score.json": ("LIVE-YT-Gaming", "W2S-VQA"),
    "w2s/LSVQ_whole_test_1080p_ds_score.json": ("LSVQ-1080p", "W2S-VQA"),
    "w2s/LSVQ_whole_test_ds_score.json": ("LSVQ-test", "W2S-VQA"),
    "w2s/Waterloo_IVC_4K_total_score2.json": ("Waterloo-IVC-4K", "W2S-VQA"),
    "w2s/kvq_train_score.json": ("KVQ", "W2S-VQA"),
    "w2s/live_hfr_total_score.json": ("LIVE-YT-HFR", "W2S-VQA"),
    "w2s/youtube_ugc_total.json": ("YouTube-UGC", "W2S-VQA"),
}


def read(path: str, name: str) -> Opinions:
    known = BENCHMARKS[name]
    return read_opinions(
        LABELS / path,
        higher_is_better=known.higher_is_better,
        average_repeated=known.average_repeated,
    )


@needs_labels
class TestKnownLists:
    @pytest.mark.parametrize(("path", "name", "release"), [(path, *known) for path, known in LISTS.items()])
    def test_have_the_rows_and_the_scale_that_are_told(self, path: str, name: str, release: str) -> None:
        opinions = read(path, name)
        known = BENCHMARKS[name].lists[release]
        assert len(opinions.names) == known.rows
        numbers = np.abs(opinions.mos) if name == "LIVE-VQA" else opinions.mos
        if known.scale is not None:
            low, high = known.scale
            assert low <= numbers.min() < numbers.max() <= high
            assert numbers.max() - numbers.min() > (high - low) / 3  # not the numbers of another scale

    def test_each_is_the_list_of_a_file(self) -> None:
        told = {(name, release) for name, known in BENCHMARKS.items() for release in known.lists}
        assert told == set(LISTS.values())

    def test_a_list_is_told_from_another_of_as_many_rows_by_its_scale(self) -> None:
        for path in (
            "w2s/Konvid-1k_total_ds_score.json",
            "dover_fastvqa/KoNViD_labels.txt",
            "dover_fastvqa/CVD2014_labels.txt",
            "minimalisticvqa/CVD2014_data.mat",
            "dover_fastvqa/LIVE_VQA_labels.txt",
        ):
            name, release = LISTS[path]
            assert BENCHMARKS[name].release(read(path, name)) == release

    def test_another_number_of_rows_is_nobodys(self) -> None:
        opinions = read("dover_fastvqa/KoNViD_labels.txt", "KoNViD-1k")
        assert BENCHMARKS["YouTube-UGC"].release(opinions) is None

    @pytest.mark.parametrize(
        ("path", "ladder"),
        [
            ("w2s/CGVDS_total_score.json", r"_(\d+)_h264_nvenc"),  # kbit/s
            ("w2s/Waterloo_IVC_4K_total_score2.json", r"_(\d)\.mp4"),  # rung, cheapest first
            ("w2s/live_hfr_total_score.json", r"_(\d+)fps"),
            ("dover_fastvqa/MSU_Benchmark_labels.txt", r"_short_(\d+)\.mp4"),  # kbit/s
            ("nflx/nflx_public.json", r"_(\d+)\.yuv"),  # kbit/s
        ],
    )
    def test_more_bits_or_frames_look_better(self, path: str, ladder: str) -> None:
        """The sign, by what nobody doubts of the videos' names."""
        opinions = read(path, LISTS[path][0])
        found = [(match, mos) for name, mos in zip(opinions.names, opinions.mos, strict=True)
                 if (match := re.search(ladder, name))]  # fmt: skip
        correlation = spearmanr([int(match[1]) for match, _ in found], [mos for _, mos in found])
        assert len(found) > 50
        assert correlation.statistic > 0.3  # contents differ, so far from 1; a wrong sign would be under 0


class TestRegistry:
    def test_the_averages_are_those_of_the_published_table(self) -> None:
        sets = {
            domain: {name for name, known in BENCHMARKS.items() if known.domain == domain}
            for domain in ("in-domain", "out-of-domain")
        }
        assert sets == {
            "in-domain": {"LSVQ-test", "LSVQ-1080p", "KoNViD-1k", "LIVE-VQC", "YouTube-UGC"},
            "out-of-domain": {"LIVE-YT-Gaming", "CGVDS", "LIVE-YT-HFR", "Waterloo-IVC-4K", "KVQ"},
        }

    @pytest.mark.parametrize("name", BENCHMARKS)
    def test_each_is_cited(self, name: str) -> None:
        known = BENCHMARKS[name]
        assert re.search(r"\w: .+ (19|20)\d\d", known.citation)
        assert known.url is None or known.url.startswith("https://")
