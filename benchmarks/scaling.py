"""Scale values of 10 000 six-item matrices: the exact optimum beside the released code's way.

    python benchmarks/scaling.py [--matrices 10000]

The released code takes 50 steps of Adam from a random start; its rate is not known, so that several are
tried and the best stands in the table, for either link. Errors are distances from the optimum; where Newton's
method ends, the slope of the log posterior bounds them, whose curvature is nowhere below the prior's 1.
Seconds are of CPU time, or of a GPU that is waited for; runs take turns, medians with quartiles.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from experiment import arguments, now, with_quartiles
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from vqa_lightning.scaling import Link, map_scores

STEPS = 50
RATES = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0)
BEST_RATE = 0.5
"""That came nearest to the optimum here after so many steps."""


def log_posterior(preferences: Tensor, values: Tensor, link: Link) -> Tensor:
    """Return the log posterior that is maximised, summed over the matrices (N, n, n), at values (N, n)."""
    difference = values[:, :, None] - values[:, None, :]
    chance = torch.special.log_ndtr(difference) if link == "probit" else F.logsigmoid(difference)
    off_diagonal = 1 - torch.eye(values.shape[-1], dtype=values.dtype, device=values.device)
    return (preferences * off_diagonal * chance).sum() - values.square().sum() / 2


def adam_values(
    preferences: Tensor, link: Link = "logit", rate: float = BEST_RATE, steps: int = STEPS
) -> Tensor:
    """Return values (N, n) of matrices (N, n, n) after some steps of Adam from a random start.

    The released code takes the logistic link.
    """
    values = torch.randn(preferences.shape[:-1], device=preferences.device).requires_grad_()
    adam = torch.optim.Adam([values], lr=rate)
    for _ in range(steps):
        adam.zero_grad()
        (-log_posterior(preferences, values, link)).backward()  # type: ignore[no-untyped-call]
        adam.step()
    return values.detach()


def made_up(count: int, items: int, device: torch.device) -> Tensor:
    """Return preferences (count, items, items) of items at random places, each with an error of its own."""
    generator = torch.Generator().manual_seed(0)
    places = 2 * torch.randn(count, items, generator=generator)
    errors = torch.randn(count, items, items, generator=generator)
    chances = torch.special.ndtr((places[:, :, None] - places[:, None, :]) + errors)
    upper = torch.triu(chances, diagonal=1)
    return (upper + torch.tril(1 - upper.mT, diagonal=-1)).to(device)


def slope(preferences: Tensor, values: Tensor, link: Link) -> float:
    """Return the largest norm, over the matrices, of the log posterior's gradient at values (N, n)."""
    places = values.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(log_posterior(preferences.double(), places, link), places)
    return float(gradient.norm(dim=-1).max())


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--matrices", type=int, default=10_000)
    parser.add_argument("--items", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    preferences = made_up(given.matrices, given.items, device)
    title = f"{given.matrices} matrices of {given.items} items, {device.type}"
    table = Table("link", "way", "seconds", "times", "largest error", "mean error", title=title)
    links: tuple[Link, ...] = ("probit", "logit")
    for link in links:
        torch.manual_seed(0)
        exact, _ = map_scores(preferences, link)
        errors = {rate: (adam_values(preferences, link, rate) - exact).abs() for rate in RATES}
        best = min(errors, key=lambda rate: float(errors[rate].mean()))
        ways: dict[str, Callable[[], object]] = {
            "map_scores": partial(map_scores, preferences, link),
            f"{STEPS} steps of Adam, rate {best}": partial(adam_values, preferences, link, best),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(given.repeats):
            for name, way in ways.items():
                began = now(device)
                way()
                seconds[name].append(now(device) - began)
        ours = seconds["map_scores"]
        bound = f"< {slope(preferences, exact, link):.0e}"
        found = (bound, bound), (f"{float(errors[best].max()):.2f}", f"{float(errors[best].mean()):.3f}")
        for (name, taken), error in zip(seconds.items(), found, strict=True):
            times = f"{np.median(taken) / np.median(ours):.1f}"
            table.add_row(link, name, with_quartiles(np.array(taken), 3), times, *error)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
