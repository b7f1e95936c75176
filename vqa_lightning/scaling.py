"""Scale values of paired preferences: the exact optimum of Thurstone's or Bradley-Terry's model, in batches.

Both log-likelihoods are concave: damped Newton from zero ends at the one optimum of every matrix in a handful
of steps, and the last Hessian gives the standard errors.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from datamodules.checks import check_choice
from datamodules.devices import in_float64
from datamodules.errors import InputError

Link = Literal["probit", "logit"]

_NEWTON_STEPS = 100  # about six are taken; dozens where the optimum lies far out
_HALVINGS = 50  # after as many halvings nothing of a step is left in float64
_STILL = 1e-10  # a step this small, beside values of about 1, ends the search: the error left is its square


@torch.no_grad()
def map_scores(preferences: Tensor, link: Link = "probit", prior: float = 1.0) -> tuple[Tensor, Tensor]:
    r"""Find the scale values that best explain paired preferences, with their standard errors.

    The values q maximise sum_ij M_ij log F(q_i - q_j) - prior / 2 sum_i q_i^2, where F is the standard normal
    distribution function (probit: Thurstone's case V) or the logistic function (logit: Bradley-Terry). With
    `prior` 1 and probit the values are the maximum a posteriori of Compare2Score (arXiv 2405.19298).

    The standard errors are the roots of the diagonal of the inverse Hessian at the optimum: the posterior's
    spread in Laplace's approximation if each entry counts that many independent votes. They depend on the
    number of votes and on nothing else. For probabilities given by a model, where a pair weighs one, the
    standard errors are almost constant and are not the error of the score.

    Args:
        preferences: (..., n, n), n >= 1; entry i, j is the weight (votes, or a probability) with which i is
            preferred over j. Not negative; the diagonal is ignored. Sparse and disconnected comparisons are
            allowed.
        link: "probit" or "logit".
        prior: precision of the values' Gaussian prior around 0. With 0 the result is the maximum of the
            likelihood, each component of items linked by comparisons centred on 0, and the pseudo-inverse of
            the Hessian; values of different components then have no common scale.

    Returns:
        values: (..., n), as `in_float64` has it, in units of the link: the difference of two
            values is the argument of F.
        stderr: (..., n), float64, in the same unit; 0 for an item with no comparison and no prior.

    Raises:
        InputError: the matrices are not square, an entry is negative or not finite, the link or the prior is
            invalid, or `prior` is 0 and the optimum is infinite: some items never lost (or never won) against
            the rest of their component.

    Example:
        >>> votes = torch.tensor([[0.0, 3.0], [1.0, 0.0]])
        >>> values, stderr = map_scores(votes, link="logit", prior=0)
        >>> round((values[0] - values[1]).exp().item(), 6)
        3.0
    """
    if preferences.ndim < 2 or preferences.shape[-1] != preferences.shape[-2] or preferences.shape[-1] == 0:
        raise InputError(
            f"Preferences must be square matrices (..., n, n); got the shape {tuple(preferences.shape)}."
        )
    check_choice("link", link, get_args(Link))
    if not 0 <= prior < math.inf:
        raise InputError(f"prior must be 0 or more, and finite; got {prior}.")
    n = preferences.shape[-1]
    weights = in_float64(preferences.reshape(-1, n, n))
    weights = weights.masked_fill(torch.eye(n, dtype=torch.bool, device=weights.device), 0.0)
    wrong = weights[~((weights >= 0) & weights.isfinite())]
    if len(wrong):
        raise InputError(f"Preferences must be 0 or more, and finite; got {wrong[0].item()}.")
    constants = _constants(weights) if prior == 0 else torch.zeros_like(weights)
    values = _maximum(weights, link, prior, constants)
    _, _, hessian = _log_posterior(weights, values, link, prior)
    inverse = torch.linalg.inv(hessian + constants) - constants
    stderr = inverse.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    return values.view(preferences.shape[:-1]), stderr.view(preferences.shape[:-1])


def _maximum(weights: Tensor, link: Link, prior: float, constants: Tensor) -> Tensor:
    values = weights.new_zeros(weights.shape[:-1])
    objective, gradient, hessian = _log_posterior(weights, values, link, prior)
    for _ in range(_NEWTON_STEPS):
        factor, failed = torch.linalg.cholesky_ex(hessian + constants)
        if bool(failed.any()):
            raise InputError(
                f"The weights differ by too many orders of magnitude for a prior of {prior}: "
                "scale the weights towards 1 or give a larger prior."
            )
        step = torch.cholesky_solve(gradient[..., None], factor)[..., 0]
        if not bool((step.abs() > _STILL).any()):
            return values + step
        # Armijo's rule for each matrix on its own; a loss that rounding could explain is no loss.
        promised = 1e-4 * (gradient * step).sum(dim=-1)
        rounding = 1e-14 * objective.abs()
        length = torch.ones_like(objective)
        for _ in range(_HALVINGS):
            trial = values + length[:, None] * step
            reached, gradient, hessian = _log_posterior(weights, trial, link, prior)
            short = reached < objective + length * promised - rounding
            if not bool(short.any()):
                break
            length = torch.where(short, length / 2, length)
        values, objective = trial, reached
    return values


def _log_posterior(
    weights: Tensor, values: Tensor, link: Link, prior: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return log posterior (N,), its gradient (N, n) and its negated Hessian (N, n, n) at values (N, n)."""
    difference = values[:, :, None] - values[:, None, :]
    if link == "probit":
        log_probability = torch.special.log_ndtr(difference)
        # The density over the distribution function, without a quotient of two vanishing numbers.
        slope = math.sqrt(2 / math.pi) / torch.special.erfcx(-difference / math.sqrt(2))
        curvature = slope * (slope + difference)
    else:
        log_probability = torch.nn.functional.logsigmoid(difference)
        slope = torch.sigmoid(-difference)
        curvature = slope * torch.sigmoid(difference)
    pull = weights * slope
    bond = weights * curvature
    bond = bond + bond.mT
    objective = (weights * log_probability).sum(dim=(-2, -1)) - prior / 2 * values.square().sum(dim=-1)
    gradient = pull.sum(dim=-1) - pull.sum(dim=-2) - prior * values
    hessian = torch.diag_embed(bond.sum(dim=-1) + prior) - bond
    return objective, gradient, hessian


def _constants(weights: Tensor) -> Tensor:
    """Return the projectors (N, n, n) on values that are one constant in each component of linked items.

    Without a prior the Hessian is 0 on these values. The projectors added to the Hessian make it regular and
    change nothing else.
    """
    components = _reachable(weights + weights.mT)
    # The maximum is finite where all items of a component lost to one another, directly or not (Ford, 1957).
    if not torch.equal(_reachable(weights), components):
        raise InputError(
            "prior must be more than 0 where an item never lost to the items compared with it, or never won: "
            "its value would be infinite; got 0."
        )
    return components / components.sum(dim=-1, keepdim=True)


def _reachable(weights: Tensor) -> Tensor:
    """Return 1.0 where a path of positive weights (N, n, n) leads from i to j, or i is j; else 0.0."""
    n = weights.shape[-1]
    paths = ((weights > 0) | torch.eye(n, dtype=torch.bool, device=weights.device)).to(weights.dtype)
    for _ in range(max(1, (n - 1).bit_length())):
        paths = (paths @ paths > 0).to(weights.dtype)
    return paths
