"""Closed forms, gradients against formulas and finite differences, and limits of the ranking losses."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from datamodules.batches import PairBatch
from datamodules.errors import InputError
from datamodules.labels import LEVELS, preference
from datamodules.labels.levels import severity_levels
from datamodules.pairs import SOURCES
from vqa_lightning.losses import (
    BradleyTerry,
    ConfidenceCrossEntropy,
    Fidelity,
    LevelCrossEntropy,
    OrderedProbit,
    OrdinalThurstone,
    PairwiseLoss,
    PointwiseLoss,
    position_entropy,
)
from vqa_lightning.losses.pointwise import fidelity, margin_cross_entropy, outcomes

POINTWISE = [OrderedProbit, OrdinalThurstone, BradleyTerry, Fidelity]
PAIRWISE = [LevelCrossEntropy, ConfidenceCrossEntropy]

LOGITS = [0.3, -1.0, 0.8, 0.1, 0.0]
TARGET = [0.0, 0.1, 0.2, 0.6, 0.1]


def phi(z: float) -> float:
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def batch(
    levels: Tensor, source: str | Sequence[str] = "synthetic", margin: float | Sequence[float] = math.nan
) -> PairBatch:
    count = len(levels)
    names = [source] * count if isinstance(source, str) else source
    margins = [margin] * count if isinstance(margin, float) else margin
    nothing = torch.zeros(2, count, 1, dtype=torch.long)
    return PairBatch(
        clips=torch.empty(2, count, 0),
        times=torch.empty(2, count, 0),
        simulators=nothing - 1,
        severities=nothing,
        done=nothing.bool(),
        levels=levels,
        margin=torch.tensor(margins),
        source=torch.tensor([SOURCES.index(name) for name in names]),
        row=torch.arange(count),
        seed=0,
    )


def some_pairs() -> tuple[Tensor, PairBatch]:
    """Twelve differences and pairs of all kinds."""
    kinds = ["synthetic", "teacher", "reference"] * 4
    margins = [
        math.nan if kind == "synthetic" else margin
        for kind, margin in zip(kinds, [1.3, -0.4] * 6, strict=True)
    ]
    return 2 * random(12), batch((3 * random(12, 5)).softmax(-1), kinds, margins)


def swapped(pairs: PairBatch) -> PairBatch:
    return pairs._replace(levels=pairs.levels.flip(-1), margin=-pairs.margin)


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


@pytest.mark.parametrize("kind", PAIRWISE)
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


class TestMarginCrossEntropy:
    def test_by_hand(self) -> None:
        loss = margin_cross_entropy(torch.tensor([0.5]), torch.tensor([1.0]))
        expected = -phi(1) * math.log(phi(0.5)) - (1 - phi(1)) * math.log(1 - phi(0.5))
        assert loss.item() == pytest.approx(expected, rel=1e-5)

    def test_is_least_where_the_difference_is_the_margin(self) -> None:
        difference = torch.tensor([1.0], requires_grad=True)
        margin_cross_entropy(difference, torch.tensor([1.0])).sum().backward()
        assert difference.grad is not None
        assert difference.grad.item() == pytest.approx(0, abs=1e-6)

    def test_gradient(self) -> None:
        difference = random(6).double().requires_grad_()
        assert gradcheck(margin_cross_entropy, (difference, random(6).double()))


class TestFidelity:
    def test_by_hand(self) -> None:
        loss = fidelity(torch.tensor([0.5]), torch.tensor([0.2]))
        expected = 1 - math.sqrt(0.2 * phi(0.5)) - math.sqrt(0.8 * (1 - phi(0.5)))
        assert loss.item() == pytest.approx(expected, rel=1e-4)  # float32 square roots, squared differences

    def test_is_zero_where_the_probabilities_are_equal_and_nowhere_else(self) -> None:
        difference = torch.linspace(-4, 4, 33, dtype=torch.float64)
        p = torch.special.ndtr(difference)
        assert fidelity(difference, p).max() < 1e-28  # a rounding of float64, squared
        others = fidelity(difference[:, None], p[None])
        off = ~torch.eye(33, dtype=torch.bool)
        assert (others[off] > 0).all()
        assert (others <= 1).all()

    def test_certain_outcomes(self) -> None:
        difference = torch.tensor([-40.0, 40.0, -40.0, 40.0], requires_grad=True)
        loss = fidelity(difference, torch.tensor([0.0, 1.0, 1.0, 0.0]))
        assert loss.tolist() == [0, 0, 1, 1]
        loss.sum().backward()
        assert difference.grad is not None
        assert difference.grad.isfinite().all()

    def test_gradient(self) -> None:
        difference = random(6).double().requires_grad_()
        wins = torch.tensor([0.0, 0.1, 0.5, 0.75, 0.9, 1.0], dtype=torch.float64)
        assert gradcheck(fidelity, (difference, wins))


class TestLevels:
    @pytest.mark.parametrize(
        ("kind", "distribution"),
        [(OrderedProbit, phi), (Fidelity, phi), (BradleyTerry, lambda z: 1 / (1 + math.exp(-z)))],
    )
    def test_by_hand(self, kind: type[PointwiseLoss], distribution: object) -> None:
        assert callable(distribution)
        loss = kind(2)
        inner, outer = loss.cuts()[1].tolist()
        found = loss.log_levels(torch.tensor([0.4]), torch.tensor([1])).exp()[0].tolist()
        below = [distribution(edge - 0.4) for edge in (-outer, -inner, inner, outer)]
        expected = [below[0], *(below[i + 1] - below[i] for i in range(3)), 1 - below[3]]
        assert found == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("kind", [OrderedProbit, BradleyTerry])
    def test_swapping_mirrors(self, kind: type[PointwiseLoss]) -> None:
        difference = torch.linspace(-6, 6, 25)
        source = torch.zeros(25, dtype=torch.long)
        found = kind(1).log_levels(difference, source)
        assert torch.allclose(found, kind(1).log_levels(-difference, source).flip(-1), atol=1e-5)
        assert torch.allclose(found.exp().sum(-1), torch.ones(25), atol=1e-5)

    @pytest.mark.parametrize("kind", [OrderedProbit, BradleyTerry])
    def test_a_confident_mistake_still_has_a_gradient(self, kind: type[PointwiseLoss]) -> None:
        difference = torch.tensor([9.0], requires_grad=True)
        kind(1).log_levels(difference, torch.tensor([0]))[0, LEVELS.index("inferior")].backward()
        assert difference.grad is not None
        assert difference.grad.item() < -0.99  # 1 for the logistic, about the difference for the normal

    def test_cuts_are_learnt_per_source(self) -> None:
        loss = OrderedProbit(2)
        loss.log_levels(torch.tensor([1.0]), torch.tensor([1]))[0, 3].backward()
        assert loss.steps.grad is not None
        assert loss.steps.grad[0].abs().sum() == 0
        assert loss.steps.grad[1].abs().sum() > 0


class TestOutcomes:
    def test_by_hand(self) -> None:
        pairs = batch(torch.eye(5)[[4, 3, 2, 0]], ["synthetic", "synthetic", "teacher", "reference"],
                      [math.nan, math.nan, 1.0, -0.5])  # fmt: skip
        assert outcomes(pairs).tolist() == pytest.approx([1, 0.75, phi(1), phi(-0.5)])


class TestOrdinalThurstone:
    def test_margins_of_annotators_and_levels_of_all_others(self) -> None:
        difference, pairs = some_pairs()
        found = OrdinalThurstone()(difference, pairs)
        teacher = pairs.source == SOURCES.index("teacher")
        by_margin = margin_cross_entropy(difference[teacher], pairs.margin[teacher])
        assert torch.equal(found[teacher], by_margin)
        assert torch.equal(found[~teacher], OrderedProbit()(difference, pairs)[~teacher])


class TestBradleyTerry:
    def test_by_hand(self) -> None:
        pairs = batch(torch.eye(5)[[3]])  # better: preferred with .75
        loss = BradleyTerry()(torch.tensor([0.4]), pairs)
        p = 1 / (1 + math.exp(-0.4))
        assert loss.item() == pytest.approx(-0.75 * math.log(p) - 0.25 * math.log(1 - p), rel=1e-5)

    def test_is_least_where_the_odds_are_the_outcomes(self) -> None:
        difference = torch.tensor([math.log(3)], requires_grad=True)
        BradleyTerry()(difference, batch(torch.eye(5)[[3]])).sum().backward()
        assert difference.grad is not None
        assert difference.grad.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", [BradleyTerry, Fidelity])
class TestCutsBesideAScore:
    def test_the_cuts_learn_from_levels_and_the_scores_do_not(self, kind: type[PointwiseLoss]) -> None:
        difference, pairs = some_pairs()
        difference.requires_grad_()
        loss = kind()
        bare = kind()
        bare.requires_grad_(False)
        value, expected = loss(difference, pairs), bare(difference, pairs)
        assert torch.equal(value, expected)
        (of_score, of_cuts) = torch.autograd.grad(value.sum(), [difference, loss.steps])
        assert torch.equal(of_score, torch.autograd.grad(expected.sum(), difference)[0])
        levels = -(pairs.levels * loss.log_levels(difference.detach(), pairs.source)).sum()
        assert torch.allclose(of_cuts, torch.autograd.grad(levels, loss.steps)[0])

    def test_they_find_the_cuts_that_made_the_levels(self, kind: type[PointwiseLoss]) -> None:
        generator = torch.Generator().manual_seed(0)
        difference = 2 * torch.randn(4000, generator=generator)
        truth = kind(1)
        with torch.no_grad():
            truth.steps.copy_(torch.tensor([[0.0, 1.0]]))  # cuts at 0.69 and 2.01
            source = torch.zeros(4000, dtype=torch.long)
            levels = torch.multinomial(truth.log_levels(difference, source).exp(), 1, generator=generator)
        pairs = batch(torch.eye(5)[levels[:, 0]])
        loss = kind()
        optimizer = torch.optim.Adam(loss.parameters(), lr=0.1)
        for _ in range(60):
            optimizer.zero_grad()
            loss(difference, pairs).mean().backward()
            optimizer.step()
        # Cuts from 4000 levels have a standard error of about 0.03.
        assert torch.allclose(loss.cuts()[SOURCES.index("synthetic")], truth.cuts()[0], atol=0.12)


@pytest.mark.parametrize("kind", POINTWISE)
class TestEveryPointwiseLoss:
    def test_cuts_begin_alike_and_are_all_there_is_to_save(self, kind: type[PointwiseLoss]) -> None:
        (state,) = kind().state_dict().items()
        assert state[0] == "steps"
        assert torch.equal(state[1], torch.full((len(SOURCES), 2), -1.05))

    def test_swapping_the_clips_changes_nothing(self, kind: type[PointwiseLoss]) -> None:
        difference, pairs = some_pairs()
        loss = kind()
        assert torch.allclose(loss(difference, pairs), loss(-difference, swapped(pairs)), atol=1e-5)

    def test_gradient_is_that_of_finite_differences(self, kind: type[PointwiseLoss]) -> None:
        difference, pairs = some_pairs()
        difference.requires_grad_()
        loss = kind()
        (found,) = torch.autograd.grad(loss(difference, pairs).sum(), difference)
        with torch.no_grad():
            expected = (loss(difference + 0.01, pairs) - loss(difference - 0.01, pairs)) / 0.02
        # float32: rounding of values near 1 over the step is 1e-5, the cubic term about as much.
        assert torch.allclose(found, expected, atol=1e-3)

    def test_half_precision_is_computed_in_single(self, kind: type[PointwiseLoss]) -> None:
        difference, pairs = some_pairs()
        with torch.autocast("cpu", torch.bfloat16):
            found = kind()(difference.bfloat16(), pairs)
        assert found.dtype == torch.float32
        assert torch.equal(found, kind()(difference.bfloat16().float(), pairs))

    def test_extreme_differences_have_finite_gradients(self, kind: type[PointwiseLoss]) -> None:
        levels = severity_levels(torch.tensor([0, 3, 1, 2]), torch.tensor([3, 0, 1, 3]))
        assert preference(levels).tolist() == [0, 1, 0.5, 0.25]
        for source, margin in (("synthetic", math.nan), ("teacher", 40.0), ("teacher", -40.0)):
            for size in (-1e3, -30.0, 30.0, 1e3):
                loss = kind()
                difference = torch.full((4,), size, requires_grad=True)
                value = loss(difference, batch(levels, source, margin))
                assert value.isfinite().all()
                value.sum().backward()
                assert difference.grad is not None
                assert difference.grad.isfinite().all()
                assert loss.steps.grad is not None
                assert loss.steps.grad.isfinite().all()
