import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.batches import PairBatch, VideoBatch
from datamodules.corpus import build_corpus, videos
from datamodules.errors import InputError
from datamodules.labels import ClipDataset, Request
from datamodules.labels.levels import severity_levels
from datamodules.pairs import SOURCES
from datamodules.video import Sampling
from vqa_lightning.annotators.student import Student
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMMConfig
from vqa_lightning.losses import Losses
from vqa_lightning.scaling import map_scores
from vqa_lightning.scoring import ErrorModel, Scoring
from vqa_lightning.training import RankingModule

TINY = LMMConfig(embedded=EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1))
SAMPLING = Sampling(frames=2, window=32)


def tiny(**settings: object) -> RankingModule:
    torch.manual_seed(0)
    module = RankingModule(lmm=TINY, sampling=SAMPLING, scoring=Scoring(anchors=3), **settings)  # type: ignore[arg-type]
    module.configure_model()
    return module.eval()


def some_clips(*count: int) -> torch.Tensor:
    return torch.rand(*count, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def some_pairs(count: int, source: str = "synthetic") -> PairBatch:
    first, second = torch.randint(0, 4, (2, count), generator=torch.Generator().manual_seed(1))
    return PairBatch(
        clips=some_clips(2, count),
        times=torch.zeros(2, count, 2),
        simulators=torch.zeros(2, count, 1, dtype=torch.long),
        severities=torch.stack([first, second])[..., None],
        done=torch.zeros(2, count, 1, dtype=torch.bool),
        one_clip=torch.full((count,), source == "synthetic"),
        levels=severity_levels(first, second),
        margin=torch.full((count,), 1.0 if source == "teacher" else float("nan")),
        places=torch.full((2, count), math.nan),
        source=torch.full((count,), SOURCES.index(source)),
        row=torch.arange(count),
        seed=0,
    )


class TestJudge:
    def test_swapping_the_clips_swaps_the_answers(self) -> None:
        module = tiny()
        pairs = some_pairs(4)
        with torch.no_grad():
            there = module.answers(pairs, module.judge(pairs.sides()))
            back = module.answers(pairs, module.judge(pairs.clips.flip(0).flatten(0, 1)))
        for judgement, (difference, levels) in there.items():
            # Batches in another order: float32 sums differ in their last digits.
            assert torch.allclose(difference, -back[judgement][0], atol=1e-5)
            assert torch.allclose(levels, back[judgement][1].flip(-1), atol=1e-5)

    @pytest.mark.parametrize("source", ["synthetic", "teacher"])
    @pytest.mark.parametrize("judgements", [("pairwise",), ("pointwise",), ("pairwise", "pointwise")])
    def test_every_part_that_is_trained_gets_a_gradient(
        self, judgements: tuple[str, ...], source: str
    ) -> None:
        module = tiny(judgements=judgements, score_by=judgements[0])
        pairs = some_pairs(4, source)
        losses = module.losses(pairs, module.judge(pairs.sides()))
        assert set(losses) == set(judgements)
        torch.stack(list(losses.values())).sum().backward()
        untouched = {name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()}
        expected = set()
        if "pointwise" not in judgements:
            expected |= {"lmm.score_head.weight", "lmm.score_head.bias"}
        else:
            expected |= {"lmm.score_head.bias"}  # only differences are trained
        if "pointwise" not in judgements or source == "teacher":
            expected |= {"pointwise_loss.steps"}  # margins meet their probability, not levels
        # A tower of one layer never reaches its last normalisation, and newlines of images are not asked for.
        assert untouched - expected <= {
            "lmm.model.model.vision_tower.post_layernorm.weight",
            "lmm.model.model.vision_tower.post_layernorm.bias",
            *(
                name for name in untouched if name.endswith("k_proj.bias")
            ),  # a softmax does not see a common shift
        }

    def test_a_training_step_tells_of_every_pair_what_was_said(self) -> None:
        module = tiny(loss=Losses(source_weights={"synthetic": 0.5}))
        pairs = some_pairs(6)
        step = module.training_step(pairs)
        advantage, cost, confidence = step["answers"].unbind(dim=1)
        assert step["answers"].dtype == torch.float32
        assert not step["answers"].requires_grad
        difference, levels = module.answers(pairs, module.judge(pairs.sides()))["pointwise"]
        order = pairs.order()
        assert (order == 0).any()
        assert (order != 0).any()
        assert torch.equal(advantage.isnan(), order == 0)
        assert torch.equal(advantage[order != 0], (difference * order)[order != 0])
        assert torch.equal(confidence, levels.amax(dim=-1))
        # The mean of sums beside the sum of means: float32 rounds them apart.
        assert step["loss"].item() == pytest.approx(0.5 * cost.mean().item(), rel=1e-5)

    def test_a_window_that_a_crop_would_pad_with_black_is_refused(self) -> None:
        module = RankingModule(lmm=replace(TINY, view="crop"), sampling=Sampling(frames=2, window=24))
        with pytest.raises(InputError, match=r"model\.sampling\.window must be 32 or more .* got 24"):
            module.configure_model()

    def test_scoring_by_what_is_not_trained_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"model\.score_by"):
            tiny(judgements=("pairwise",), score_by="pointwise")


class TestScores:
    def test_clips_that_are_anchors_rank_as_the_anchors_do_among_themselves(self) -> None:
        module = tiny(score_by="pairwise")
        anchors = torch.randint(
            0, 256, (3, 2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )
        module.set_anchors(anchors)
        matrix = module.anchors.matrix
        assert torch.allclose(matrix + matrix.T, torch.ones(3, 3))
        values, _ = map_scores(matrix)
        raw = module.rate(anchors.float() / 255)
        assert torch.equal(raw.argsort(), values.argsort())

    def test_t_scores_of_the_training_corpus_have_mean_50_and_deviation_10(self) -> None:
        module = tiny()
        raw = torch.randn(200, 4, generator=torch.Generator().manual_seed(0)) * 3 + 7
        module.set_scale(raw.mean(dim=1).double().numpy(), ErrorModel(factor=2.0, floor=0.5))
        scores, errors = module.t_scores(raw)
        assert scores.mean().item() == pytest.approx(50, abs=1e-3)
        assert scores.std(correction=0).item() == pytest.approx(10, abs=1e-3)
        deviation = np.std(raw.mean(dim=1).numpy())
        error = math.hypot(2 * raw[0].std().item() / 2, 0.5)
        assert errors[0].item() == pytest.approx(10 * error / deviation, rel=1e-4)

    def test_percentiles_are_of_the_training_corpus(self) -> None:
        module = tiny()
        assert np.isnan(module.percentiles(np.array([50.0]))).all()  # of no corpus
        raw = np.arange(101.0)
        module.set_scale(raw, ErrorModel(factor=1.0, floor=0.0))
        published = 50 + 10 * (raw - raw.mean()) / raw.std()
        found = module.percentiles(np.array([published[0] - 9, *published[[0, 25, 90]], 999.0, np.nan]))
        assert found == pytest.approx([0, 0, 25, 90, 100, np.nan], nan_ok=True, abs=1e-4)

    def test_a_video_s_score_does_not_depend_on_its_company(self) -> None:
        module = tiny(score_by="pairwise")
        module.set_anchors(torch.randint(0, 256, (3, 2, 3, 32, 32), dtype=torch.uint8))
        clips = [torch.randint(0, 256, (4, 2, 3, 32, 32), dtype=torch.uint8) for _ in range(3)]
        together, _ = module.predict_step(VideoBatch(torch.stack(clips), [0, 1, 2], {}))
        alone = [module.predict_step(VideoBatch(clip[None], [0], {}))[0] for clip in clips]
        assert torch.equal(together, torch.cat(alone))


class TestStudent:
    def test_the_same_weights_have_the_same_fingerprint(self) -> None:
        module = tiny()
        first = Student(module).fingerprint
        assert Student(tiny()).fingerprint == first
        with torch.no_grad():
            module.lmm.score_head.weight += 1e-3
        assert Student(module).fingerprint != first

    def test_scores_are_those_of_predict(self, small_corpus: Path) -> None:
        module = tiny()
        video = videos(build_corpus(small_corpus, cache=small_corpus / "cache", progress=False))[0]
        (row,) = Student(module).annotate([Request(video)])
        clips = ClipDataset([Request(video)], SAMPLING, module.scoring.draws)[0].frames.float() / 255
        raw = module.rate(clips)
        assert row.score == pytest.approx(raw.mean().item(), abs=1e-5)
        assert row.stderr == pytest.approx(raw.std().item() / 2, abs=1e-5)
