from pathlib import Path

import pytest
import torch

from datamodules.codecs import CODECS
from datamodules.corpus import build_corpus, videos
from datamodules.distortions import DISTORTIONS
from datamodules.labels import Annotation, ClipDataset, LabelStore, Request, annotate_missing
from datamodules.labels.clips import distorted
from datamodules.video import Sampling
from vqa_lightning.annotators.student import Student
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMMConfig
from vqa_lightning.scoring import Scoring
from vqa_lightning.training import RankingModule

TINY = LMMConfig(embedded=EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1))


@pytest.fixture(scope="module")
def requests(mixed_corpus: Path) -> list[Request]:
    found = videos(build_corpus(mixed_corpus, cache=mixed_corpus / "cache", progress=False))
    return [Request(video) for video in found] + [Request(found[0], DISTORTIONS["gaussian_blur"], 4)]


def student(window: int | None) -> Student:
    torch.manual_seed(0)
    module = RankingModule(lmm=TINY, sampling=Sampling(frames=2, window=window), scoring=Scoring(draws=2))
    module.configure_model()
    return Student(module.eval())


def test_scores_whole_frames_of_any_size_as_each_alone(requests: list[Request]) -> None:
    annotator = student(None)
    found = {(row.video_id, row.level): row.score for row in annotator.annotate(requests)}
    assert len(found) == len(requests)
    for request in requests[:3]:
        clips = ClipDataset([request], annotator.sampling, 2)[0].frames / 255
        assert clips.shape[-2:] == (request.video.height, request.video.width)
        # Batches of other sizes: float32 sums differ in their last digits.
        expected = pytest.approx(annotator.module.rate(clips).mean().item(), abs=1e-5)
        assert found[request.video.video_id, 0] == expected
    assert found[requests[0].video.video_id, 4] != found[requests[0].video.video_id, 0]


def test_judges_one_whole_clip_at_a_time(requests: list[Request], monkeypatch: pytest.MonkeyPatch) -> None:
    annotator = student(None)
    rate, taken = annotator.module.rate, []
    monkeypatch.setattr(annotator.module, "rate", lambda clips: taken.append(len(clips)) or rate(clips))
    assert len(list(annotator.annotate(requests))) == len(requests)
    assert taken == [1] * annotator.draws * len(requests)


def test_draws_of_whole_frames_do_not_share_their_noise(requests: list[Request]) -> None:
    noisy = Request(requests[0].video, DISTORTIONS["gaussian_noise"], 5)
    clip = ClipDataset([noisy], student(None).sampling)[0]
    first, again, second = (distorted(clip.frames, clip.times, noisy, draw) for draw in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_takes_fewer_whole_frames_at_once_than_windows() -> None:
    assert student(None).batch_clips < student(40).batch_clips


EYES = LMMConfig(
    quality_tower="efficientnet_lite0",
    pictures=False,
    motion="differences",
    feature_cache="memory",
    embedded=EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1),
)


class TestFrozenEyes:
    @pytest.fixture(scope="class")
    def module(self) -> RankingModule:
        torch.manual_seed(0)
        module = RankingModule(lmm=EYES, sampling=Sampling(frames=4, window=48), scoring=Scoring(draws=2))
        module.configure_model()
        return module.eval()

    def scores(
        self, module: RankingModule, requests: list[Request], workers: int = 0
    ) -> dict[tuple[str, int], float]:
        return {(row.video_id, row.level): row.score for row in Student(module).annotate(requests, workers)}

    def test_scores_are_those_of_the_whole_model(
        self, module: RankingModule, requests: list[Request]
    ) -> None:
        found = self.scores(module, requests)
        for request in requests[:3]:
            clips = ClipDataset([request], module.sampling, 2)[0].frames / 255
            expected = pytest.approx(module.rate(clips).mean().item(), abs=1e-4)
            assert found[request.video.video_id, 0] == expected

    def test_workers_that_look_see_the_same(self, requests: list[Request]) -> None:
        codec = Request(requests[0].video, CODECS["h264"], 2)
        found = []
        for workers in (0, 2):
            torch.manual_seed(0)
            module = RankingModule(lmm=EYES, sampling=Sampling(frames=4, window=48), scoring=Scoring(draws=2))
            module.configure_model()
            found.append(self.scores(module.eval(), [*requests, codec], workers))
        assert found[0] == pytest.approx(found[1], abs=1e-5)

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_second_round_reads_nothing_and_scores_by_the_new_weights(
        self, module: RankingModule, requests: list[Request], workers: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = self.scores(module, requests, workers)
        monkeypatch.setattr("datamodules.labels.clips.read_clips", None)
        assert self.scores(module, requests, workers) == first
        with torch.no_grad():
            module.lmm.score_head.bias += 1
        assert self.scores(module, requests, workers) == pytest.approx(
            {key: value + 1 for key, value in first.items()}, abs=1e-5
        )

    def test_what_is_kept_can_be_trained_on(self, module: RankingModule, requests: list[Request]) -> None:
        self.scores(module, requests)
        assert module.lmm.seen is not None
        key = f"{requests[0].video.video_id} 0"
        module.lmm.score(module.lmm.encode([torch.empty(0)], [key])).sum().backward()
        quality = module.lmm.quality_tower
        assert quality is not None
        assert quality.projector[0].weight.grad is not None


@pytest.mark.parametrize("config", [EYES, TINY], ids=["features", "pictures"])
def test_what_is_scored_after_an_interruption_is_the_same_to_the_bit(
    config: LMMConfig, requests: list[Request], tmp_path: Path
) -> None:
    def build() -> RankingModule:
        torch.manual_seed(0)
        module = RankingModule(lmm=config, sampling=Sampling(frames=4, window=48), scoring=Scoring(draws=2))
        module.configure_model()
        return module.eval()

    blur = DISTORTIONS["gaussian_blur"]
    asked = [*requests, *(Request(one.video, blur, level) for one in requests[:-1] for level in (1, 3, 5))]
    module, whole, broken = build(), *(LabelStore(str(tmp_path / name)) for name in ("whole", "broken"))
    for _ in Student(module).annotate(requests[:3]):
        pass  # a process that trains knows some of the clips
    annotate_missing(Student(module), asked, whole, round=1)
    done = whole.read(round=1).to_pylist()
    student = Student(build())
    for some in (done[:5], done[11:12]):
        rows = [Annotation(*(row[name] for name in Annotation._fields)) for row in some]
        broken.write(1, student.name, student.fingerprint, rows, rank=0, settings=student.settings)
    assert annotate_missing(student, asked, broken, round=1) == len(asked) - 6
    assert sorted(broken.read(round=1).to_pylist(), key=str) == sorted(done, key=str)
