"""Any no-reference metric of the pyiqa collection, image by image.

pyiqa itself says which way a metric's sign goes. It is not installed by default, for its licence (PolyForm
Noncommercial 1.0.0) is narrower than this package's.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version

import torch
from torch import Tensor

from datamodules.errors import InputError
from datamodules.files import weights_hash
from datamodules.teachers.teacher import Teacher
from datamodules.video import Sampling

SETS = ("fid", "inception_score")
"""Listed by pyiqa among the no-reference metrics, but measures of sets of images."""


class PyIQA(Teacher):
    """A metric of pyiqa (extra pyiqa) with its sign turned where lower is better.

    pyiqa may be used for noncommercial purposes only; the licences of the weights, which it downloads, are
    those of each metric's authors.

    Args:
        metric: pyiqa's name of a no-reference metric, such as "musiq", "topiq_nr" or "brisque".
        segments: single frames taken over the duration.
        window: frames larger than this are cut to a square of this side, in pixels; None keeps them whole.
        device: where frames are scored.
        name: under which the scores are stored; "pyiqa-" and the metric by default.

    Raises:
        InputError: if the extra is missing, the metric is not known or needs a reference, or its weights
            cannot be downloaded.
    """

    def __init__(
        self,
        metric: str,
        segments: int = 4,
        window: int | None = 512,
        device: str | torch.device = "cpu",
        name: str | None = None,
    ) -> None:
        sampling = Sampling(segments=segments, frames=1, window=window)
        super().__init__(name or f"pyiqa-{metric}", sampling, device=device)
        try:
            pyiqa = import_module("pyiqa")
        except ModuleNotFoundError as error:
            raise InputError(
                f"The teacher PyIQA cannot import {error.name}; install vqa-lightning[pyiqa], whose licence "
                "allows noncommercial use only."
            ) from error
        known = [name for name in pyiqa.list_models("NR") if name not in SETS]
        if metric not in known:
            raise InputError(
                f"The metric {metric!r} is no no-reference metric of pyiqa {version('pyiqa')}; give one of "
                f"{', '.join(known)}."
            )
        try:
            # Made elsewhere, pyiqa's model could not be moved: what says where it lies would stay behind.
            self._metric = pyiqa.create_metric(metric, as_loss=False, device=torch.device("cpu"))
        except OSError as error:  # URLError is one
            raise InputError(
                f"The weights of pyiqa's {metric} cannot be loaded ({error}); go online once."
            ) from error
        self._weights = weights_hash(self._metric.net.state_dict())

    def fit(self, workers: int) -> None:
        """Moves the network to where it is to score."""
        self._metric.to(self.device)

    @property
    def settings(self) -> Mapping[str, object]:
        """Also a hash of the weights and pyiqa's version."""
        return {**super().settings, "weights": self._weights, "pyiqa": version("pyiqa")}

    def score(self, clips: Tensor) -> Tensor:
        """Score clips (B, T, C, H, W) in [0, 1]: (B,), the signed mean over frames."""
        scores: Tensor = self._metric(clips.flatten(0, 1))
        scores = scores.reshape(clips.shape[:2]).nanmean(dim=1)
        return -scores if self._metric.lower_better else scores
