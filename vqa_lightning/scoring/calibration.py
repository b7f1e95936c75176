"""How far a student's standard errors can be trusted, found from ladders whose order is known.

The spread over the clips of a video is only a part of a score's error: all clips share what the model does
not know of a simulator. That part is a floor under the error; ladders of simulators not trained on tell it.
"""

import math
from itertools import combinations, groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.optimize import minimize_scalar
from scipy.special import log_ndtr

Floats = npt.NDArray[np.float64]

LEAST, MOST = 1e-3, 1e1
"""Of a floor, in median differences of a pair: no error to speak of, and a coin's throw."""


class ErrorModel(NamedTuple):
    """How a raw score's standard error follows from its spread: sqrt((factor * spread)^2 + floor^2).

    Attributes:
        factor: on the spread over clips.
        floor: in raw units, the error that all clips of a video share.
    """

    factor: float
    floor: float

    def stderr(self, spread: Floats) -> Floats:
        """Return standard errors from spreads of any shape."""
        return np.hypot(self.factor * spread, self.floor)


def fit_errors(ladders: pa.Table) -> ErrorModel:
    """Return the error model under which known orders are likeliest.

    Of two versions of one source the milder should score higher with probability Phi(difference / joint
    standard error). The spread is taken as it is, factor 1: it is what other clips of the same video would
    change. The floor maximises the likelihood of all such pairs, with half a right and half a wrong answer
    added. A factor fitted beside it does no better on simulators left out (benchmarks/error_bars.py):
    versions of one source are cut from the same places, so that their differences say little of the spread.

    Args:
        ladders: rows of `LabelStore.read` of one annotator: sources and their distorted versions. Rows
            without a `stderr` are left out.

    Returns:
        A floor above 0; 0 where there is no ladder.
    """
    difference, spread = ladder_pairs(ladders)
    if not len(difference):
        return ErrorModel(1.0, 0.0)
    typical = float(np.median(np.abs(difference))) or 1.0
    # Half a right and half a wrong answer at the median distance: Jeffreys' prior on a proportion.
    weight = np.append(np.ones(len(difference)), [0.5, 0.5])
    difference = np.append(difference, [typical, -typical])
    spread = np.append(spread, np.full(2, np.median(spread)))

    def surprise(logarithm: float) -> float:
        joint = np.sqrt(spread + 2 * (math.exp(logarithm) * typical) ** 2)
        return -float(weight @ log_ndtr(difference / joint))

    found = minimize_scalar(surprise, bounds=(math.log(LEAST), math.log(MOST)), method="bounded")
    return ErrorModel(1.0, math.exp(found.x) * typical)


def with_errors(table: pa.Table, errors: ErrorModel) -> pa.Table:
    """Return the rows of `LabelStore.read` with standard errors in the place of spreads."""
    stderr = errors.stderr(table["stderr"].to_numpy())
    place = table.schema.get_field_index("stderr")
    return table.set_column(place, table.schema.field(place), pa.array(stderr, from_pandas=True))


def ladder_pairs(ladders: pa.Table) -> tuple[Floats, Floats]:
    """Compare every two versions of a source under one simulator, the source itself among them.

    Args:
        ladders: as `fit_errors` takes them.

    Returns:
        (n,) by how much the milder version scores higher, and (n,) the sum of both squared spreads.
    """
    rows = [row for row in ladders.to_pylist() if row["stderr"] is not None]
    sources = {row["video_id"]: row for row in rows if row["simulator"] is None}
    versions = [row for row in rows if row["simulator"] is not None and row["video_id"] in sources]
    versions.sort(key=lambda row: (row["video_id"], row["simulator"], row["level"]))
    pairs = [
        (milder["score"] - harsher["score"], milder["stderr"] ** 2 + harsher["stderr"] ** 2)
        for (video_id, _), members in groupby(versions, key=lambda row: (row["video_id"], row["simulator"]))
        for milder, harsher in combinations([sources[video_id], *members], 2)
    ]
    difference, spread = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return difference, spread
