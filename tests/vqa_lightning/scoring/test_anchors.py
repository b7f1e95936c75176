import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.errors import InputError
from datamodules.labels import Consensus, preference
from datamodules.video import Sampling
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMM, LMMConfig
from vqa_lightning.scaling import map_scores
from vqa_lightning.scoring import Anchors
from vqa_lightning.scoring.anchors import calmest, named_clips

SAMPLING = Sampling(frames=2, window=32)


@pytest.fixture(scope="module")
def lmm() -> LMM:
    torch.manual_seed(0)
    sizes = LMMConfig(embedded=EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=2))
    return LMM(sizes, SAMPLING).requires_grad_(False).eval()


def some_clips(count: int, seed: int, side: int = 32) -> Tensor:
    return torch.rand(count, 2, 3, side, side, generator=torch.Generator().manual_seed(seed))


def prefers(logits: Tensor) -> Tensor:
    """Far from undecided, or a wrong anchor would hardly show."""
    return preference((20 * logits).softmax(-1))


def five_passes(lmm: LMM, anchors: Anchors, clip: Tensor, order: int) -> float:
    """A clip's score as the released code finds it: both clips encoded and read anew for every anchor."""
    n = anchors.count
    matrix = torch.zeros(n + 1, n + 1)
    matrix[:n, :n] = anchors.matrix
    for place, frames in enumerate(anchors.clips):
        pair = lmm.encode(torch.stack([frames / 255, clip]))
        asked = ([0], [1]) if order == 0 else ([1], [0])
        logits, *_ = lmm.compare(pair.take(asked[0]), pair.take(asked[1]))
        wins = prefers(logits)[0] if order == 0 else 1 - prefers(logits)[0]
        matrix[n, place], matrix[place, n] = wins, 1 - wins
    return map_scores(matrix)[0][n].item()


class TestScaleValues:
    @pytest.fixture(scope="class")
    def anchors(self, lmm: LMM) -> Anchors:
        anchors = Anchors(5)
        anchors.choose(list((some_clips(5, seed=1) * 255).to(torch.uint8)))
        anchors.compare(lmm, prefers)
        return anchors

    @pytest.mark.parametrize("row_tokens", [2**16, 1])
    def test_they_are_those_of_five_passes(
        self, lmm: LMM, anchors: Anchors, row_tokens: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "vqa_lightning.scoring.anchors.ROW_TOKENS", row_tokens
        )  # all clips at once, and singly
        clips = some_clips(3, seed=2)
        values = anchors.scale_values(lmm, lmm.encode(clips), prefers)
        for clip, (anchor_first, clip_first) in zip(clips, values.tolist(), strict=True):
            # float32 sums in another order, on preferences 20 times as steep as the model's own
            assert anchor_first == pytest.approx(five_passes(lmm, anchors, clip, 0), abs=1e-3)
            assert clip_first == pytest.approx(five_passes(lmm, anchors, clip, 1), abs=1e-3)
        assert values.std(dim=0).min() > 0.01
        assert (values[:, 0] - values[:, 1]).abs().min() > 1e-3

    def test_one_order_is_the_first_of_two(self, lmm: LMM, anchors: Anchors) -> None:
        tokens = lmm.encode(some_clips(2, seed=3))
        one = anchors.scale_values(lmm, tokens, prefers, both_orders=False)
        assert torch.allclose(one, anchors.scale_values(lmm, tokens, prefers)[:, :1], atol=1e-6)

    def test_new_weights_are_not_judged_by_old_prefixes(self, lmm: LMM, anchors: Anchors) -> None:
        before = anchors.read(lmm)
        assert anchors.read(lmm) is before
        anchors.forget()
        assert anchors.read(lmm) is not before


class TestChoice:
    def test_the_least_disputed_video_of_each_bin(self) -> None:
        names = tuple("abcdef")
        score, variance = np.array([6.0, 5, 4, 3, 2, 1]), np.array([1, 0.5, 1, 0.5, 0.2, 1])
        assert calmest(Consensus(names, score, variance), 3) == ["e", "d", "b"]

    @pytest.mark.parametrize("count", [2, 5, 9])
    def test_any_number(self, count: int) -> None:
        names = tuple(map(str, range(20)))
        chosen = calmest(Consensus(names, np.arange(20.0), np.ones(20)), count)
        assert len(set(chosen)) == count
        assert all(int(a) < int(b) for a, b in itertools.pairwise(chosen))

    def test_more_bins_than_videos(self) -> None:
        with pytest.raises(InputError, match=r"in the train split, 2; got 3: .*\.$"):
            calmest(Consensus(("a", "b"), np.arange(2.0), np.ones(2)), 3)

    def test_named_files(self, small_corpus: Path) -> None:
        files = sorted(small_corpus.glob("*.mp4"))[:2]
        clips = named_clips([str(file) for file in files], SAMPLING)
        assert [tuple(clip.shape) for clip in clips] == [(2, 3, 32, 32)] * 2

    def test_a_named_file_that_is_not_there(self) -> None:
        with pytest.raises(InputError, match=r"^model\.scoring\.anchors: nothing\.mp4 is missing\.$"):
            named_clips(["nothing.mp4"], SAMPLING)
