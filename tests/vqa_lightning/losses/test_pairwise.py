"""Losses of the five levels: values by hand, symmetry, limits, and the entropy over all positions."""

import math

import pytest
import torch
from torch import Tensor

from datamodules.errors import InputError
from datamodules.labels import LEVELS
from vqa_lightning.losses import ConfidenceCrossEntropy, LevelCrossEntropy, PairwiseLoss, position_entropy

LOGITS = [0.3, -1.0, 0.8, 0.1, 0.0]
TARGET = [0.0, 0.1, 0.2, 0.6, 0.1]


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


class TestLevelCrossEntropy:
    def test_of_a_soft_label(self) -> None:
        logits = torch.tensor([[0.0, 0.0, math.log(2), 0.0, 0.0]])
        target = torch.tensor([[0.0, 0.0, 0.5, 0.5, 0.0]])
        expected = -0.5 * math.log(2 / 6) - 0.5 * math.log(1 / 6)
        assert LevelCrossEntropy()(logits, target, progress=0.3).item() == pytest.approx(expected)

    def test_of_the_likeliest_level(self) -> None:
        found = LevelCrossEntropy(hard=True)(torch.tensor([LOGITS]), torch.tensor([TARGET]), progress=0.3)
        total = sum(math.exp(logit) for logit in LOGITS)
        assert found.item() == pytest.approx(math.log(total) - LOGITS[LEVELS.index("better")])


class TestConfidenceCrossEntropy:
    @pytest.mark.parametrize(
        ("progress", "largest", "temperature"), [(0, 0, 0.5), (0.05, 0.5, 0.3), (0.1, 1, 0.1), (1, 1, 0.1)]
    )
    def test_by_hand(self, progress: float, largest: float, temperature: float) -> None:
        total = sum(math.exp(logit) for logit in LOGITS)
        p = [math.exp(logit) / total for logit in LOGITS]
        entropy = -sum(q * math.log(q) for q in p)
        cross_entropy = -sum(y * math.log(q) for y, q in zip(TARGET, p, strict=True))
        own, labels = math.exp(entropy / temperature), math.exp(cross_entropy / temperature)
        weight = largest * own / (own + labels)

        logits = torch.tensor([LOGITS], requires_grad=True)
        loss = ConfidenceCrossEntropy()(logits, torch.tensor([TARGET]), progress=progress)
        assert loss.item() == pytest.approx((1 - weight) * cross_entropy + weight * entropy, rel=1e-5)
        loss.backward()
        # The weight passes no gradient: what is left are those of CE, p - y, and of H, -p (log p + H).
        expected = [
            (1 - weight) * (q - y) - weight * q * (math.log(q) + entropy)
            for q, y in zip(p, TARGET, strict=True)
        ]
        assert logits.grad is not None
        assert logits.grad[0].tolist() == pytest.approx(expected, abs=1e-6)  # float32

    def test_at_the_start_it_is_the_cross_entropy(self) -> None:
        logits, target = random(8, 5), random(8, 5).softmax(-1)
        for hard in (False, True):
            found = ConfidenceCrossEntropy(hard=hard)(logits, target, progress=0)
            assert torch.equal(found, LevelCrossEntropy(hard)(logits, target, progress=0))

    def test_in_evaluation_it_is_the_cross_entropy(self) -> None:
        logits, target = random(8, 5), random(8, 5).softmax(-1)
        found = ConfidenceCrossEntropy("all").eval()(logits, target, progress=0.7)
        assert torch.equal(found, LevelCrossEntropy()(logits, target, progress=0.7))

    def test_a_sure_prediction_keeps_its_label_and_an_unsure_one_gives_way(self) -> None:
        sure = torch.tensor([[9.0, 0.0, 0.0, 0.0, 0.0]])
        wrong = torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0]])
        loss = ConfidenceCrossEntropy()
        assert loss(sure, wrong, progress=1).item() == pytest.approx(9, rel=1e-3)  # CE 9.0005, H 0.005
        right = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]])
        unsure = torch.tensor([[1.5, 0.0, 0.0, 0.0, 0.0]])  # CE 0.64, H 1.35: l is all but 1
        assert loss(unsure, right, progress=1).item() == pytest.approx(1.35, abs=0.01)

    def test_the_entropy_over_all_positions_is_given(self) -> None:
        logits, target = torch.tensor([LOGITS]), torch.tensor([TARGET])
        loss = ConfidenceCrossEntropy("all")
        assert loss.needs_all_positions
        assert not ConfidenceCrossEntropy().needs_all_positions
        entropy = torch.tensor([11.0], requires_grad=True)  # ln of a vocabulary of 60 000
        found = loss(logits, target, progress=1, entropy=entropy)
        assert found.item() == pytest.approx(11)
        found.backward()
        assert entropy.grad is not None
        assert entropy.grad.item() == pytest.approx(1)
        with pytest.raises(ValueError, match="position_entropy"):
            loss(logits, target, progress=1)

    def test_without_warm_up_it_starts_at_full_weight(self) -> None:
        logits, target = torch.tensor([LOGITS]), torch.tensor([TARGET])
        loss = ConfidenceCrossEntropy(warmup=0)
        assert torch.equal(loss(logits, target, progress=0), loss(logits, target, progress=1))

    @pytest.mark.parametrize("bad", [{"warmup": -0.1}, {"start": 0.0}, {"end": -1.0}])
    def test_numbers_out_of_range(self, bad: dict[str, float]) -> None:
        with pytest.raises(InputError, match=r"model\.loss\.pairwise\."):
            ConfidenceCrossEntropy(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [LevelCrossEntropy, ConfidenceCrossEntropy])
class TestEveryPairwiseLoss:
    def test_pairs_do_not_touch_each_other(self, kind: type[PairwiseLoss]) -> None:
        logits, target = 3 * random(6, 5), random(6, 5).softmax(-1)
        together = kind()(logits, target, progress=0.07)
        alone = [kind()(logits[i : i + 1], target[i : i + 1], progress=0.07) for i in range(6)]
        assert torch.allclose(together, torch.cat(alone), rtol=1e-6)  # vectorised sums round otherwise

    def test_swapping_the_clips_changes_nothing(self, kind: type[PairwiseLoss]) -> None:
        logits, target = 3 * random(6, 5), random(6, 5).softmax(-1)
        mirrored = kind()(logits.flip(-1), target.flip(-1), progress=0.07)
        assert torch.allclose(kind()(logits, target, progress=0.07), mirrored, rtol=1e-5)  # order of sums

    def test_half_precision_is_computed_in_single(self, kind: type[PairwiseLoss]) -> None:
        logits, target = random(6, 5).bfloat16(), random(6, 5).softmax(-1)
        with torch.autocast("cpu", torch.bfloat16):
            found = kind()(logits, target, progress=0.07)
        assert found.dtype == torch.float32
        assert torch.equal(found, kind()(logits.float(), target, progress=0.07))

    def test_extreme_logits_have_finite_gradients(self, kind: type[PairwiseLoss]) -> None:
        logits = (torch.eye(5) * 1e5).requires_grad_()
        loss = kind()(logits, torch.eye(5).roll(1, dims=0), progress=0.07)
        assert loss.isfinite().all()
        loss.sum().backward()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


class TestPositionEntropy:
    LENGTHS = (7, 4, 10)

    def naive(self, hidden: Tensor, weight: Tensor) -> Tensor:
        p = (hidden @ weight.T).softmax(-1)
        entropy = torch.special.entr(p).sum(-1)
        return torch.stack([row[:length].mean() for row, length in zip(entropy, self.LENGTHS, strict=True)])

    @pytest.mark.parametrize("chunk", [4, 100])
    def test_equals_the_plain_computation_and_its_gradients(self, chunk: int) -> None:
        hidden, weight = random(3, 10, 8).requires_grad_(), random(30, 8).requires_grad_()
        found = position_entropy(hidden, weight, self.LENGTHS, chunk=chunk)
        expected = self.naive(hidden, weight)
        assert torch.allclose(found, expected, atol=1e-5)  # float32 sums of 30 terms up to ln 30
        weights = torch.tensor([1.0, -2.0, 3.0])
        for own, other in zip(
            torch.autograd.grad(found @ weights, [hidden, weight]),
            torch.autograd.grad(expected @ weights, [hidden, weight]),
            strict=True,
        ):
            assert torch.allclose(own, other, atol=1e-5)

    def test_no_gradient_reaches_the_padding(self) -> None:
        hidden = random(3, 10, 8).requires_grad_()
        position_entropy(hidden, random(30, 8), self.LENGTHS).sum().backward()
        assert hidden.grad is not None
        assert not hidden.grad[1, 4:].any()
        assert hidden.grad[1, :4].any()

    def test_keeps_no_logits_for_the_backward_pass(self) -> None:
        kept: list[int] = []

        def keep(tensor: Tensor) -> Tensor:
            kept.append(tensor.numel())
            return tensor

        hidden, weight = random(1, 64, 8).requires_grad_(), random(1000, 8)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            position_entropy(hidden, weight, [64], chunk=16)
        assert max(kept) <= weight.numel()  # the logits of a chunk have twice as many

    def test_half_precision(self) -> None:
        hidden, weight = random(3, 10, 8).bfloat16(), random(30, 8).bfloat16()
        found = position_entropy(hidden, weight, self.LENGTHS)
        assert found.dtype == torch.float32
        # bfloat16 logits have 8 bits: a hundredth of the entropy is more than they can be off by on average.
        assert torch.allclose(found, self.naive(hidden.float(), weight.float()), rtol=1e-2)
