"""Scale values of any votes: their optimum is scipy's, and they follow the order that the votes say."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm

from vqa_lightning.scaling import Link, map_scores

LINKS = st.sampled_from(["probit", "logit"])
PRIORS = st.floats(0.01, 10)


@st.composite
def votes(draw: st.DrawFn, least: int = 2, most: int = 7) -> torch.Tensor:
    """Square matrices of votes, sparse ones and such with one item alone among them."""
    n = draw(st.integers(least, most))
    cells = st.one_of(st.just(0.0), st.floats(0, 1), st.integers(0, 40).map(float))
    return torch.tensor(draw(st.lists(cells, min_size=n * n, max_size=n * n))).double().view(n, n)


@given(votes(), LINKS, PRIORS)
def test_the_values_are_the_optimum_that_scipy_finds(matrix: torch.Tensor, link: Link, prior: float) -> None:
    weights = matrix.numpy() * (1 - np.eye(len(matrix)))

    def loss(values: np.ndarray) -> float:
        apart = values[:, None] - values
        known = norm.logcdf(apart) if link == "probit" else -np.logaddexp(0, -apart)
        return float(-(weights * known).sum() + prior / 2 * (values**2).sum())

    values, _ = map_scores(matrix, link, prior)
    best = minimize(loss, np.zeros(len(matrix)), method="BFGS", options={"gtol": 1e-8})
    assert loss(values.numpy()) <= best.fun + 1e-9 * max(1, abs(best.fun))
    np.testing.assert_allclose(values, best.x, atol=2e-4)


@given(votes(), LINKS, PRIORS, st.randoms(use_true_random=False))
def test_names_of_items_do_not_matter(matrix, link, prior, random) -> None:
    order = list(range(len(matrix)))
    random.shuffle(order)
    values, stderr = map_scores(matrix, link, prior)
    renamed, error = map_scores(matrix[order][:, order], link, prior)
    torch.testing.assert_close(renamed, values[order], atol=1e-8, rtol=0)
    torch.testing.assert_close(error, stderr[order], atol=1e-8, rtol=1e-8)


@given(votes(), LINKS, PRIORS)
def test_votes_turned_round_turn_the_values_round(matrix, link, prior) -> None:
    values, stderr = map_scores(matrix, link, prior)
    turned, error = map_scores(matrix.mT, link, prior)
    torch.testing.assert_close(turned, -values, atol=1e-8, rtol=0)
    torch.testing.assert_close(error, stderr, atol=1e-8, rtol=1e-8)
    assert abs(values.sum().item()) < 1e-7  # the prior holds their mean at 0


@given(votes(least=3), LINKS, PRIORS)
def test_who_wins_more_and_loses_less_stands_higher(matrix, link, prior) -> None:
    # Item 0 gets at least what item 1 has against every other item, and loses no more.
    others = torch.arange(2, len(matrix))
    matrix[0, others] = torch.maximum(matrix[0, others], matrix[1, others])
    matrix[others, 0] = torch.minimum(matrix[others, 0], matrix[others, 1])
    matrix[0, 1] = torch.maximum(matrix[0, 1], matrix[1, 0])
    values, _ = map_scores(matrix, link, prior)
    assert values[0] >= values[1] - 1e-9


@given(votes(), LINKS, PRIORS, st.floats(1, 20))
def test_more_votes_of_the_same_kind_narrow_the_errors(matrix, link, prior, times) -> None:
    _, few = map_scores(matrix, link, prior * times)
    _, many = map_scores(matrix * times, link, prior * times)
    values, _ = map_scores(matrix, link, prior)
    scaled, _ = map_scores(matrix * times, link, prior * times)
    torch.testing.assert_close(scaled, values, atol=1e-7, rtol=0)  # votes and prior weigh against each other
    assert (few > 0).all()
    assert (few.square() <= 1 / (prior * times) + 1e-9).all()  # never wider than the prior
    assert (many.square() <= 1 / (prior * times) + 1e-9).all()


@given(st.lists(votes(4, 4), min_size=1, max_size=5), LINKS, PRIORS)
def test_a_batch_is_its_matrices_one_by_one(matrices, link, prior) -> None:
    values, stderr = map_scores(torch.stack(matrices), link, prior)
    for matrix, value, error in zip(matrices, values, stderr, strict=True):
        alone, own = map_scores(matrix, link, prior)
        torch.testing.assert_close(alone, value, atol=1e-8, rtol=0)
        torch.testing.assert_close(own, error, atol=1e-8, rtol=1e-8)
