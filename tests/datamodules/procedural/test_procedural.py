import csv
import itertools
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from datamodules.errors import InputError
from datamodules.fidelity.ms_ssim import structural_similarity
from datamodules.opinions import read_opinions
from datamodules.procedural import read_truth, write_corpus, write_mos
from datamodules.procedural.corpus import _splits
from datamodules.procedural.observers import OBSERVERS, opinion, vote
from datamodules.procedural.shots import develop, film
from datamodules.procedural.uploads import Chain, draw_chain, draw_content, write_content
from vqa_lightning.metrics import srcc

CONTENTS = 3


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, contents=CONTENTS, workers=1)
    return folder


class TestCorpus:
    def test_bytes_depend_on_neither_run_nor_workers(self, corpus: Path, tmp_path: Path) -> None:
        manifest = write_corpus(tmp_path, contents=CONTENTS, workers=2)
        assert manifest == tmp_path / "manifest.csv"
        assert files(tmp_path) == files(corpus)

    def test_finished_corpus_is_left_alone(self, corpus: Path) -> None:
        before = {path: path.stat().st_mtime_ns for path in corpus.iterdir()}
        write_corpus(corpus, contents=CONTENTS)
        assert {path: path.stat().st_mtime_ns for path in corpus.iterdir()} == before

    def test_interrupted_run_is_completed(self, corpus: Path, tmp_path: Path) -> None:
        """Killed while it wrote the second row of its journal, the third file being there and unrecorded."""
        for name in ("corpus.json", "content_000.mp4", "content_001.mp4"):
            shutil.copy(corpus / name, tmp_path)
        (tmp_path / "content_002.mp4").write_bytes(b"stale")
        header, first, second = (corpus / "truth.csv").read_text().splitlines(keepends=True)[:3]
        (tmp_path / "truth.partial.csv").write_text(header + first + second[:20])
        kept = (tmp_path / "content_000.mp4").stat().st_mtime_ns
        write_corpus(tmp_path, contents=CONTENTS, workers=1)
        assert (tmp_path / "content_000.mp4").stat().st_mtime_ns == kept
        assert files(tmp_path) == files(corpus)

    def test_nothing_but_the_truth_tells_the_truth(self, corpus: Path) -> None:
        listed = rows(corpus / "manifest.csv")
        assert [list(row) for row in listed] == [["path", "content", "split"]] * CONTENTS
        assert [row["path"] for row in listed] == [f"content_{index:03d}.mp4" for index in range(CONTENTS)]
        assert {row["split"] for row in listed} == {"train", "select", "report"}
        assert all(
            b"crf=" not in path.read_bytes() for path in corpus.glob("*.mp4")
        )  # x264 writes it by default

    def test_truth_by_content(self, corpus: Path) -> None:
        truth = read_truth(corpus)
        assert list(truth) == [row["content"] for row in rows(corpus / "manifest.csv")]
        assert all(0 < score <= 1 for score in truth.values())
        assert {"ssim", "blur", "noise", "exposure", "crf"} <= set(rows(corpus / "truth.csv")[0])

    def test_another_corpus_is_not_overwritten(self, corpus: Path) -> None:
        with pytest.raises(InputError, match="another corpus"):
            write_corpus(corpus, contents=CONTENTS + 1)

    def test_too_few_contents(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="must be 3 or more; got 2"):
            write_corpus(tmp_path / "none", contents=2)
        assert not (tmp_path / "none").exists()

    def test_truth_of_a_folder_without(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"truth\.csv"):
            read_truth(tmp_path)

    @pytest.mark.parametrize(
        ("contents", "expected"),
        [(128, (64, 24, 40)), (96, (46, 18, 32)), (64, (32, 12, 20)), (3, (1, 1, 1))],
    )
    def test_split_sizes(self, contents: int, expected: tuple[int, int, int]) -> None:
        splits = _splits(contents)
        assert tuple(splits.count(split) for split in ("train", "select", "report")) == expected


class TestFiles:
    def test_promised_format(self, corpus: Path) -> None:
        for index in range(CONTENTS):
            content, chain = draw_content(0, index), draw_chain(0, index)
            with av.open(str(corpus / f"content_{index:03d}.mp4")) as container:
                stream = container.streams.video[0]
                context = stream.codec_context
                frames = list(container.decode(stream))
            assert context.name == "h264"
            assert (context.height, context.width) == (content.height, content.width)
            assert 256 <= min(content.height, content.width) <= max(content.height, content.width) <= 360
            assert stream.average_rate == content.fps
            assert len(frames) == sum(shot.frames for shot in content.shots)
            assert 2 <= len(frames) / content.fps <= 4
            keyframes = [number for number, frame in enumerate(frames) if frame.key_frame]
            gaps = [after - before for before, after in itertools.pairwise(keyframes)]
            assert max(gaps) <= chain.keyframes <= 24

    @pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
    def test_tagged_matrix_gives_the_rendered_colours_back(self, tmp_path: Path, matrix: str) -> None:
        path = tmp_path / "clip.mp4"
        write_content(path, 0, 2, Chain(crf=10, matrix=matrix))
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
        content = draw_content(0, 2)
        rendered = develop(next(film(content.shots, content.height, content.width, content.fps)))
        source = {"bt709": "ITU709", "smpte170m": "ITU601"}[matrix]
        assert frame.colorspace == {"bt709": 1, "smpte170m": 6}[matrix]
        decoded = torch.from_numpy(frame.to_ndarray(format="rgb24", src_colorspace=source)).float() / 255
        error = decoded.permute(2, 0, 1).mean((1, 2)) - rendered.mean((1, 2))
        assert error.abs().max() < 0.006  # rounding to 8 bits and CRF 10 move a mean by under .004


class TestTruth:
    def test_equals_the_reference_implementation(self) -> None:
        from torchmetrics.functional.image import (
            multiscale_structural_similarity_index_measure,
            structural_similarity_index_measure,
        )

        content = draw_content(0, 0)
        frames = film(content.shots, content.height, content.width, content.fps)
        clean = torch.stack([develop(light)[1] for light in itertools.islice(frames, 2)])
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        noisy = (clean + 0.1 * noise).clamp(0, 1)
        pair = noisy[:, None], clean[:, None]
        ms_ssim, ssim = structural_similarity(noisy, clean)
        expected = multiscale_structural_similarity_index_measure(*pair, data_range=1.0)
        # At the coarsest scale torchmetrics counts windows over reflected borders, the authors do not.
        assert ms_ssim.mean() == pytest.approx(float(expected), abs=5e-3)
        _, full = structural_similarity_index_measure(*pair, data_range=1.0, return_full_image=True)
        # Single precision: cancellation in the variances leaves some 1e-5 of their 9e-4 stabiliser.
        assert ssim.mean() == pytest.approx(float(full[..., 5:-5, 5:-5].mean()), abs=1e-4)

    def test_falls_with_each_part_of_the_chain(self, tmp_path: Path) -> None:
        def score(chain: Chain) -> float:
            return write_content(tmp_path / "clip.mp4", 0, 1, chain)["ms_ssim"]

        pristine = score(Chain())
        crf = [pristine, score(Chain(crf=32)), score(Chain(crf=44))]
        assert crf == sorted(crf, reverse=True)
        assert pristine > 0.97
        worse = [
            crf[-1],
            *(score(chain) for chain in (Chain(blur=2.5), Chain(noise=0.3), Chain(exposure=-3))),
        ]
        assert max(worse) < pristine - 0.02  # plain to the eye

    def test_any_run_of_contents_covers_the_severities(self) -> None:
        """The report split of 128 contents holds nearly pristine uploads and bad ones."""
        crf = [draw_chain(0, index).crf for index in range(88, 128)]
        assert min(crf) < 20
        assert max(crf) > 35


class TestObservers:
    def test_votes_lie_on_the_scale_and_follow_the_opinion(self) -> None:
        quality = opinion(1 - np.geomspace(0.5, 0.002, 400))
        votes = vote(quality)
        assert votes.shape == (400, OBSERVERS)
        assert set(np.unique(votes)) == {1, 2, 3, 4, 5}
        assert srcc(votes.mean(axis=1), quality) > 0.95
        # Published tests have .6 to .75: rounding, bias and inconsistency together.
        assert 0.5 < np.sqrt(votes.var(axis=1, ddof=1).mean()) < 0.9

    def test_no_vote_depends_on_how_many_videos_there_are(self) -> None:
        quality = opinion(np.linspace(0.5, 0.99, 20))
        assert np.array_equal(vote(quality)[:7], vote(quality[:7]))
        assert not np.array_equal(vote(quality), vote(quality, seed=1))

    def test_list_is_the_same_again_and_reads_as_any_other(self, corpus: Path, tmp_path: Path) -> None:
        shutil.copy(corpus / "truth.csv", tmp_path)
        before = write_mos(tmp_path).read_bytes()
        assert write_mos(tmp_path).read_bytes() == before
        assert not (corpus / "mos.csv").exists()  # a corpus without a run that asks for MOS has none
        listed = read_opinions(tmp_path / "mos.csv")
        assert listed.names == [row["path"] for row in rows(corpus / "manifest.csv")]
        assert listed.votes.tolist() == [OBSERVERS] * CONTENTS
        assert np.isfinite(listed.deviation).all()
