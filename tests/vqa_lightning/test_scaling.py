"""Scale values against published numbers, closed forms and a general optimiser."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import norm
from torch import Tensor

from datamodules.errors import InputError
from vqa_lightning.scaling import Link, map_scores

REFERENCE = Path(__file__).resolve().parents[2].parent / "shared/data/reference"
LINKS: tuple[Link, ...] = ("probit", "logit")


def reference(name: str) -> Any:
    path = REFERENCE / name
    if not path.exists():
        pytest.skip(f"there is no {path}")
    return json.loads(path.read_text())


def votes(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 5 + 0.1


def test_published_cases() -> None:
    for case in reference("expected_scaling.json")["scaling"].values():
        matrix = torch.tensor(case["matrix"], dtype=torch.float64)
        for link in LINKS:
            for prior in (0, 1):
                values, _ = map_scores(matrix, link, prior)
                assert values.tolist() == pytest.approx(case[f"{link}_lambda{prior}"], abs=1e-6)


@pytest.mark.parametrize("number", [1, 2])
def test_choix_pairwise(number: int) -> None:
    case = reference(f"choix/testcase-pairwise-{number}.json")
    matrix = torch.zeros(case["n_items"], case["n_items"])
    for winner, loser in case["data"]:
        matrix[winner, loser] += 1
    values, _ = map_scores(matrix, "logit", prior=0)
    assert values.tolist() == pytest.approx(case["ml_est"], abs=1e-6)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("prior", [0.0, 0.3, 1.0])
def test_agrees_with_scipy(link: Link, prior: float) -> None:
    batch = votes(4, 6, 6)
    values, _ = map_scores(batch, link, prior)

    def loss(q: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> float:
        difference = q[:, None] - q[None, :]
        log_f = norm.logcdf(difference) if link == "probit" else -np.logaddexp(0, -difference)
        return float(-(weights * log_f).sum() + prior / 2 * q @ q)

    for weights, mine in zip(batch.numpy(), values.numpy(), strict=True):
        weights = weights * (1 - np.eye(6))
        found = minimize(loss, np.zeros(6), args=(weights,), method="BFGS", options={"gtol": 1e-8})
        # BFGS on differences stops where rounding hides the slope, about 1e-6 away
        np.testing.assert_allclose(mine, found.x - (found.x.mean() if prior == 0 else 0), atol=2e-5)
        assert loss(mine, weights) <= found.fun + 1e-9


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_stderr_is_the_inverse_hessian(link: Link, prior: float) -> None:
    matrix = votes(5, 5, seed=1).fill_diagonal_(0)
    values, stderr = map_scores(matrix, link, prior)

    def objective(q: Tensor) -> Tensor:
        difference = q[:, None] - q[None, :]
        log_f = (
            torch.special.log_ndtr(difference)
            if link == "probit"
            else torch.nn.functional.logsigmoid(difference)
        )
        return -(matrix * log_f).sum() + prior / 2 * q.square().sum()

    hessian = torch.func.hessian(objective)(values)
    expected = torch.linalg.pinv(hessian, hermitian=True, rtol=1e-10).diagonal().sqrt()
    torch.testing.assert_close(stderr, expected, rtol=1e-8, atol=1e-10)


def test_batch_shape_and_diagonal() -> None:
    batch = votes(2, 3, 4, 4).float()
    values, stderr = map_scores(batch)
    assert values.shape == stderr.shape == (2, 3, 4)
    assert values.dtype == torch.float64
    ignored = batch + torch.eye(4) * 100
    torch.testing.assert_close(map_scores(ignored)[0], values)
    torch.testing.assert_close(map_scores(batch[1, 2])[0], values[1, 2], rtol=0, atol=1e-12)
    assert map_scores(torch.zeros(0, 4, 4))[0].shape == (0, 4)


def test_disconnected_components() -> None:
    matrix = torch.zeros(5, 5)
    matrix[0, 1], matrix[1, 0] = 3, 1
    matrix[2, 3], matrix[3, 2] = 1, 9
    values, stderr = map_scores(matrix, "logit", prior=0)
    gap, other = math.log(3), math.log(9)  # each pair in closed form, centred on its own
    assert values.tolist() == pytest.approx([gap / 2, -gap / 2, -other / 2, other / 2, 0], abs=1e-9)
    assert stderr[4] == 0
    values, stderr = map_scores(matrix, "logit", prior=1)
    assert values[4] == 0
    assert stderr[4] == 1  # the prior's own


@pytest.mark.parametrize("link", LINKS)
def test_never_lost(link: Link) -> None:
    matrix = torch.tensor([[0.0, 5, 0], [0, 0, 2], [0, 1, 0]])
    values, _ = map_scores(matrix, link, prior=1.0)
    assert values[0] > values[1] > values[2]
    with pytest.raises(InputError, match=r"prior must be more than 0 where an item .* infinite; got 0"):
        map_scores(matrix, link, prior=0)


@pytest.mark.parametrize("link", LINKS)
def test_far_optimum(link: Link) -> None:
    """One vote in 10^12: the distribution function's tail, where a plain quotient is 0 / 0."""
    matrix = torch.tensor([[0.0, 1e6], [1e-6, 0.0]], dtype=torch.float64)
    values, _ = map_scores(matrix, link, prior=0)
    share = 1e-12 / (1 + 1e-12)
    expected = -norm.ppf(share) if link == "probit" else math.log(1e12)
    assert float(values[0] - values[1]) == pytest.approx(expected, abs=1e-6)


def test_extreme_weights_are_refused() -> None:
    matrix = torch.zeros(4, 4)
    matrix[0, 1], matrix[2, 3] = 1e12, 1e-12
    with pytest.raises(InputError, match="too many orders of magnitude"):
        map_scores(matrix, "probit", prior=1e-12)


@pytest.mark.parametrize(
    ("matrix", "arguments", "message"),
    [
        (torch.ones(2, 3), {}, r"shape \(2, 3\)"),
        (torch.tensor([[0.0, -1.0], [1.0, 0.0]]), {}, r"0 or more, and finite; got -1\.0"),
        (
            torch.tensor([[0.0, math.nan], [1.0, 0.0]]),
            {},
            "Preferences must .* finite; got nan",
        ),
        (torch.ones(2, 2), {"link": "cauchit"}, "link must be one of probit, logit; got 'cauchit'"),
        (torch.ones(2, 2), {"prior": -1.0}, r"prior must be 0 or more, and finite; got -1\.0"),
    ],
)
def test_bad_input(matrix: Tensor, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        map_scores(matrix, **arguments)
