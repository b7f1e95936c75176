"""Losses of a difference of scores: values by hand, finite differences, symmetry, limits."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from datamodules.batches import PairBatch
from datamodules.labels import LEVELS, preference
from datamodules.labels.levels import severity_levels
from datamodules.pairs import SOURCES
from vqa_lightning.losses import BradleyTerry, Fidelity, OrderedProbit, OrdinalThurstone, PointwiseLoss
from vqa_lightning.losses.pointwise import fidelity, margin_cross_entropy, outcomes


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
        one_clip=torch.tensor([name == "synthetic" for name in names]),
        levels=levels,
        margin=torch.tensor(margins),
        places=torch.full((2, count), math.nan),
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
    def test_margins_of_annotators_and_metrics_and_levels_of_all_others(self) -> None:
        difference, pairs = some_pairs()
        found = OrdinalThurstone()(difference, pairs)
        scored = (pairs.source == SOURCES.index("teacher")) | (pairs.source == SOURCES.index("reference"))
        by_margin = margin_cross_entropy(difference[scored], pairs.margin[scored])
        assert torch.equal(found[scored], by_margin)
        assert torch.equal(found[~scored], OrderedProbit()(difference, pairs)[~scored])


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


@pytest.mark.parametrize("kind", [OrderedProbit, OrdinalThurstone, BradleyTerry, Fidelity])
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
