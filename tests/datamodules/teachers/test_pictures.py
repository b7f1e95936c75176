"""What several teachers ask of a frame is computed once, and each says what it says alone."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules import BRISQUE, NIQE, Artefacts, video
from datamodules.codecs import CODECS, Codec
from datamodules.corpus import build_corpus, videos
from datamodules.distortions import DISTORTIONS
from datamodules.labels import LabelStore, Request, clips
from datamodules.teachers import Laplacian, Teacher, pictures
from datamodules.teachers.batch import Batch
from datamodules.teachers.natural_scenes import brisque, niqe, normalising
from datamodules.teachers.natural_scenes.normalising import halve, normalise
from datamodules.teachers.one_reading import alike, annotate_together
from datamodules.teachers.pictures import Picture


def default_teachers() -> list[Teacher]:
    return [NIQE(), BRISQUE(), Artefacts(), Laplacian()]


@pytest.fixture(scope="module")
def requests(mixed_corpus: Path) -> list[Request]:
    found = videos(build_corpus(mixed_corpus, cache=mixed_corpus / "cache", progress=False))
    codec = [Request(found[0], CODECS["h264"], level) for level in (1, 3)]
    return [*map(Request, found), *codec, Request(found[1], DISTORTIONS["gaussian_blur"], 2)]


@pytest.mark.parametrize("workers", [0, 1])
def test_together_each_says_what_it_says_alone(requests: list[Request], tmp_path: Path, workers: int) -> None:
    store, teachers = LabelStore(tmp_path), default_teachers()
    (group,) = alike(teachers)
    annotate_together(group, requests, store, workers=workers)
    for teacher in default_teachers():
        found = {
            (row["video_id"], row["simulator"], row["level"]): row["score"]
            for row in store.read(round=0, fingerprint=teacher.fingerprint).to_pylist()
        }
        alone = {row[:3]: row.score for row in teacher.annotate(requests)}
        # Alone, clips of one size are scored together, and float32 sums differ in their last digits.
        assert found == pytest.approx(alone, rel=1e-5)


def test_of_two_runs_the_second_encodes_nothing_and_no_clip_is_read_for_each_teacher(
    requests: list[Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done: Counter[str] = Counter()
    read, encode = clips.read_clips, Codec.encode

    def counted_read(*given: object, **named: object) -> object:
        done["read"] += 1
        return read(*given, **named)  # type: ignore[arg-type]

    def counted_encode(*given: object) -> bytes:
        done["encoded"] += 1
        return encode(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(clips, "read_clips", counted_read)
    monkeypatch.setattr(Codec, "encode", counted_encode)
    segments = NIQE().sampling.segments
    for run, encoded in ((1, 2 * segments), (2, 0)):
        done.clear()
        (group,) = alike(default_teachers())
        scored = annotate_together(group, requests, LabelStore(tmp_path / str(run)))
        assert set(scored.values()) == {len(requests)}
        # Once for each video and again where another video's clip came between.
        assert len({one.video.video_id for one in requests}) <= done["read"] <= len(requests)
        assert done["encoded"] == encoded


def test_luma_and_its_normalisation_are_computed_once(
    requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: Counter[str] = Counter()

    def luma(frames: Tensor) -> Tensor:
        done["luma"] += 1
        return video.luma(frames)

    def normalised(picture: Picture) -> Tensor:
        done["normalised"] += 1
        return normalising.normalised(picture)

    monkeypatch.setattr(pictures, "luma", luma)
    for module in (niqe, brisque):
        monkeypatch.setattr(module, "normalised", normalised)
    item = clips.ClipDataset(requests, NIQE().sampling, pad=False)[0]
    batch = Batch(requests[:1], [item], torch.device("cpu"))
    for teacher in default_teachers():
        assert list(teacher.annotate_batch(batch))
    assert done == {"luma": 2, "normalised": 1}  # luma in [0, 1] and as code values, of all frames together


class Upside(Laplacian):
    def score(self, clips: Tensor) -> Tensor:
        return -super().score(clips)


class Rude(Laplacian):
    def score(self, clips: Tensor) -> Tensor:
        return clips.zero_().mean(dim=(1, 2, 3, 4))


def test_a_subclass_that_scores_clips_is_asked_and_harms_no_other(requests: list[Request]) -> None:
    item = clips.ClipDataset(requests, NIQE().sampling, pad=False)[0]
    batch = Batch(requests[:1], [item], torch.device("cpu"))
    scores = [next(one.annotate_batch(batch)).score for one in (Rude(), Laplacian(), Upside())]
    assert scores[0] == 0
    assert scores[1] == -scores[2] != 0


@pytest.mark.parametrize("size", [(40, 64), (97, 130), (6, 9), (5, 5)])
@pytest.mark.parametrize("border", ["replicate", "constant"])
def test_what_is_known_of_a_larger_frame_gives_its_part(
    size: tuple[int, int], border: normalising.Border
) -> None:
    frames = (torch.rand(2, 120, 140, generator=torch.Generator().manual_seed(0)) * 255).round()
    part = frames[:, : size[0], : size[1]]
    # The same arithmetic in another order of frames: float32.
    assert torch.allclose(
        normalise(part, border, known=normalise(frames)), normalise(part, border), atol=1e-6
    )


def test_flat_areas_and_ramps_are_exactly_zero() -> None:
    ramp = torch.arange(40.0).expand(1, 30, 40) * 3
    assert normalise(ramp)[..., 3:-3].count_nonzero() == 0
    assert normalise(halve(torch.full((1, 30, 40), 77.0))).count_nonzero() == 0
