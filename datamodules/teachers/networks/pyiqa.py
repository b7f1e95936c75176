"""Any no-reference metric of the pyiqa collection, image by image.

pyiqa itself says which way a metric's sign goes. It is not installed by default, for its licence (PolyForm
Noncommercial 1.0.0) is narrower than this package's licence.
"""

from importlib import import_module
from importlib.metadata import version

import torch
from torch import Tensor

from datamodules.checks import check_choice
from datamodules.errors import InputError
from datamodules.files import weights_hash
from datamodules.teachers.networks.network import NetworkTeacher, loading
from datamodules.video import Sampling

SETS = ("fid", "inception_score")
"""Metrics that pyiqa lists among the no-reference metrics, but that measure sets of images."""


class PyIQA(NetworkTeacher):
    """A metric of pyiqa (extra pyiqa) with its sign turned where lower is better.

    pyiqa may be used for noncommercial purposes only. pyiqa downloads the weights, whose licences are those
    of each metric's authors.

    Args:
        metric: pyiqa's name of a no-reference metric, such as "musiq", "topiq_nr" or "brisque".
        segments: single frames taken over the duration.
        window: frames larger than this are cut to a square of this side, in pixels; None keeps them whole.
        device: where frames are scored.
        name: under which the scores are stored; "pyiqa-" and the metric by default.

    Raises:
        InputError: the extra is missing, the metric is not known or needs a reference, or its weights cannot
            be downloaded.
    """

    def __init__(
        self,
        metric: str,
        segments: int = 4,
        window: int | None = 512,
        device: str | torch.device = "cpu",
        name: str | None = None,
    ) -> None:
        try:
            pyiqa = import_module("pyiqa")
        except ModuleNotFoundError as error:
            raise InputError(
                f"PyIQA cannot import {error.name}; install vqa-lightning[pyiqa], whose licence allows "
                "noncommercial use only."
            ) from error
        known = [name for name in pyiqa.list_models("NR") if name not in SETS]
        check_choice(f"The metric of pyiqa {version('pyiqa')}", metric, known)
        with loading(f"The weights of pyiqa's {metric}", "go online once", OSError):  # URLError is an OSError
            # On another device pyiqa's model could not be moved: it would still look for itself on the first.
            network = pyiqa.create_metric(metric, as_loss=False, device=torch.device("cpu"))
        depends_on = {"weights": weights_hash(network.net.state_dict()), "pyiqa": version("pyiqa")}
        sampling = Sampling(segments, frames=1, window=window)
        super().__init__(name or f"pyiqa-{metric}", network, depends_on, sampling, device)

    def score_frames(self, frames: Tensor) -> Tensor:
        """Score frames (N, C, H, W) in [0, 1]: N numbers with their sign turned where lower is better."""
        scores = super().score_frames(frames)
        return -scores if self.network.lower_better else scores
