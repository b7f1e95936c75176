"""How far a student's standard errors can be trusted, found from ladders whose order is known."""

from itertools import groupby
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from scipy.optimize import minimize_scalar
from scipy.stats import norm

_LARGEST = 100.0


class ErrorModel(NamedTuple):
    """How a raw score's standard error follows from its spread: sqrt((factor * spread)^2 + floor^2).

    Attributes:
        factor: by which the spread over clips understates the error.
        floor: in raw units, the error that all clips of a video share.
    """

    factor: float
    floor: float


def error_factor(ladders: pa.Table) -> float:
    """The factor on standard errors under which known orders are likeliest.

    For two versions of one source the milder should score higher with probability Phi(difference / (factor *
    joint stderr)); the factor maximises the likelihood of all such pairs with one half added on either side,
    so that a faultless order does not ask for an infinite certainty.

    Args:
        ladders: rows of `LabelStore.read` of one annotator with `stderr`: sources and their distorted
            versions.

    Returns:
        A factor between 0.01 and 100; 1 where there is no ladder.
    """
    rows = [row for row in ladders.to_pylist() if row["stderr"] is not None]
    sources = {row["video_id"]: row for row in rows if row["simulator"] is None}
    steps = sorted(
        (row for row in rows if row["simulator"] is not None and row["video_id"] in sources),
        key=lambda row: (row["video_id"], row["simulator"], row["level"]),
    )
    ratios = []
    for (video_id, _), members in groupby(steps, key=lambda row: (row["video_id"], row["simulator"])):
        ladder = [sources[video_id], *members]
        for place, milder in enumerate(ladder):
            for harsher in ladder[place + 1 :]:
                joint = np.hypot(milder["stderr"], harsher["stderr"])
                ratios.append((milder["score"] - harsher["score"]) / max(joint, 1e-9))
    if not ratios:
        return 1.0
    ratio = np.array(ratios)
    # Half a right and half a wrong answer at the median distance: Jeffreys' prior on a proportion.
    typical = float(np.median(np.abs(ratio)))
    values = np.concatenate([ratio, [typical, -typical]])
    weights = np.concatenate([np.ones(len(ratio)), [0.5, 0.5]])

    def surprise(log_factor: float) -> float:
        return -float(weights @ norm.logcdf(values / np.exp(log_factor)))

    bound = np.log(_LARGEST)
    found = minimize_scalar(surprise, bounds=(-bound, bound), method="bounded")
    return float(np.exp(found.x))
