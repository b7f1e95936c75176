from dataclasses import replace
from pathlib import Path

import pytest
import torch

from datamodules.errors import InputError
from datamodules.video import Sampling
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMM, LMMConfig
from vqa_lightning.lmm.feature_cache import FeatureCache

TINY = LMMConfig(embedded=EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1))
SAMPLING = Sampling(frames=2, window=32)


@pytest.fixture(scope="module")
def lmm() -> LMM:
    torch.manual_seed(0)
    return LMM(TINY, SAMPLING).requires_grad_(False)


def clips(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


class TestCompare:
    def test_the_first_clips_score_has_seen_nothing_of_the_second(self, lmm: LMM) -> None:
        tokens = lmm.encode(clips(3))
        _, beside_second, _ = lmm.compare(tokens.take([0]), tokens.take([1]))
        _, beside_third, _ = lmm.compare(tokens.take([0]), tokens.take([2]))
        assert torch.allclose(beside_second, beside_third, atol=1e-6)
        assert torch.allclose(beside_second, lmm.score(tokens.take([0])), atol=1e-6)

    def test_the_order_of_the_clips_matters_to_the_answer(self, lmm: LMM) -> None:
        tokens = lmm.encode(clips(2))
        there, back = (
            lmm.compare(tokens.take(order), tokens.take(order[::-1]))[0] for order in ([0, 1], [1, 0])
        )
        assert not torch.allclose(there, back, atol=1e-4)

    def test_one_order_gives_the_first_half_of_both(self, lmm: LMM) -> None:
        both, one = (lmm(clips(6), both_orders=orders) for orders in (True, False))
        # Batches of another size: float32 sums differ in their last digits.
        assert torch.allclose(both.levels[:1], one.levels, atol=1e-5)
        assert torch.allclose(both.scores, one.scores, atol=1e-5)

    def test_scores_alone_are_the_same(self, lmm: LMM) -> None:
        alone = lmm(clips(6), pairwise=False)
        assert alone.levels is None
        assert torch.allclose(alone.scores, lmm(clips(6)).scores, atol=1e-5)


class TestViews:
    def test_clips_of_another_size_are_resized_to_the_tower(self) -> None:
        lmm = LMM(replace(TINY, view="resize"), SAMPLING)
        large = torch.rand(1, 2, 3, 50, 70)
        assert lmm.encode(large).embeddings.shape == lmm.encode(clips(1)).embeddings.shape

    def test_two_pictures_a_frame_are_twice_the_tokens(self, lmm: LMM) -> None:
        both = LMM(replace(TINY, view="resize_fragments"), SAMPLING)
        one, two = (model.encode(torch.rand(1, 2, 3, 48, 48)).lengths[0] for model in (lmm, both))
        assert two - 1 == 2 * (one - 1)  # one token ends the video

    def test_clips_that_differ_in_size_are_encoded_as_each_by_itself(self) -> None:
        lmm = LMM(replace(TINY, view="resize"), SAMPLING)
        different = [torch.rand(2, 3, *size) for size in ((50, 70), (32, 32), (50, 70), (64, 40))]
        together = lmm.encode(different).embeddings
        for clip, tokens in zip(different, together, strict=True):
            assert torch.allclose(lmm.encode(clip[None]).embeddings[0], tokens, atol=1e-5)


class TestFeatureCache:
    def test_features_are_kept_and_the_same(self, lmm: LMM, tmp_path: Path) -> None:
        expected = lmm.encode(clips(3)).embeddings
        lmm.cache = FeatureCache(tmp_path, 1.0, lmm.family.tower, lmm.family.projector)
        lmm.encode(clips(3)[:2])
        assert len(list(tmp_path.iterdir())) == 2
        assert torch.allclose(lmm.encode(clips(3)).embeddings, expected, atol=1e-6)
        assert len(list(tmp_path.iterdir())) == 3
        lmm.cache = None

    def test_another_tower_finds_nothing(self, lmm: LMM, tmp_path: Path) -> None:
        def seen(frames: torch.Tensor) -> tuple[torch.Tensor, None]:
            asked.append(len(frames))
            return frames.flatten(2), None

        asked: list[int] = []
        for weight in (1.0, 1.0, 2.0):
            tower = torch.nn.Linear(1, 1, bias=False).requires_grad_(False)
            tower.weight.fill_(weight)
            FeatureCache(tmp_path, 1.0, tower).features(clips(2), seen)
        assert asked == [2, 2]

    def test_a_full_cache_adds_nothing(self, lmm: LMM, tmp_path: Path) -> None:
        FeatureCache(tmp_path, 1e-9, lmm.family.tower).features(clips(2), lmm.family.features)
        assert not list(tmp_path.iterdir())

    def test_a_trained_tower_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"model\.lmm\.feature_cache"):
            FeatureCache(tmp_path, 1.0, torch.nn.Linear(1, 1))


class TestPretrained:
    @pytest.fixture
    def saved(self, lmm: LMM, tmp_path: Path) -> Path:
        lmm.model.save_pretrained(tmp_path)
        lmm.family.processor.save_pretrained(tmp_path)
        return tmp_path

    def test_a_saved_checkpoint_answers_the_same(self, lmm: LMM, saved: Path) -> None:
        loaded = LMM(LMMConfig(pretrained=str(saved)), SAMPLING)
        assert loaded.model.training  # transformers loads in eval mode
        ours, theirs = (m(clips(2), pointwise=False).levels for m in (lmm, loaded))
        assert torch.allclose(ours, theirs, atol=1e-6)

    def test_a_folder_without_a_model_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="cannot be loaded"):
            LMM(LMMConfig(pretrained=str(tmp_path / "nothing")), SAMPLING)


@pytest.mark.parametrize("sizes", [{"patch_size": 7}, {"hidden_size": 40}])
def test_sizes_that_do_not_fit(sizes: dict[str, int]) -> None:
    with pytest.raises(InputError, match="multiple"):
        EmbeddedSizes(**sizes)
