"""The regression of VMAF v0.6.1: six features of a frame to the score that people would give it.

The support vectors lie beside this module, with their notice. VMAF NEG has the same ones: it differs in the
features alone.
"""

import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.devices import for_device


class _Model(NamedTuple):
    slopes: Tensor
    intercepts: Tensor
    support_vectors: Tensor
    weights: Tensor
    gamma: float
    rho: float
    score_slope: float
    score_intercept: float


@cache
def _model(device: torch.device) -> _Model:
    told = json.loads(files("datamodules.fidelity").joinpath("vmaf_v0.6.1.json").read_text("ascii"))
    with torch.inference_mode(False):
        slopes, intercepts, vectors, weights = (
            for_device(torch.tensor(told[name]), device)
            for name in ("feature_slopes", "feature_intercepts", "support_vectors", "weights")
        )
    numbers = (float(told[name]) for name in ("gamma", "rho", "score_slope", "score_intercept"))
    return _Model(slopes, intercepts, vectors, weights, *numbers)


def predict(features: Tensor) -> Tensor:
    """Predict the score of frames.

    Args:
        features: (..., 6): ADM, motion, and VIF at four scales, the finest first.

    Returns:
        (...), from 0 to 100.

    Example:
        >>> perfect, poor = [1.0, 5.0, 1.0, 1.0, 1.0, 1.0], [0.8, 5.0, 0.2, 0.5, 0.6, 0.7]
        >>> [round(score, 1) for score in predict(torch.tensor([perfect, poor])).tolist()]
        [100.0, 35.5]
    """
    model = _model(features.device)
    scaled = features * model.slopes + model.intercepts
    distances = (scaled[..., None, :] - model.support_vectors).square().sum(-1)
    scores = (torch.exp(-model.gamma * distances) * model.weights).sum(-1) - model.rho
    return ((scores - model.score_intercept) / model.score_slope).clamp(0, 100)
