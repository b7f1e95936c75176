"""ARNIQA through torchmetrics, on weights that torch.hub finds or downloads.

torchmetrics asks torch.hub for the two files by their URL and takes no other files. A user without a network
therefore puts the files where torch.hub looks first.
"""

import pickle
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torchmetrics.image import arniqa

from datamodules.checks import check_choice
from datamodules.files import weights_hash
from datamodules.teachers.networks.network import NetworkTeacher, loading
from datamodules.video import Sampling

RELEASE = "https://github.com/miccunifi/ARNIQA/releases/tag/weights"


class ARNIQA(NetworkTeacher):
    """ARNIQA (Agnolucci, Galteri, Bertini and Del Bimbo, WACV 2024): about 0 to 1, higher better.

    The files ARNIQA.pth and regressor_DATASET.pth of the authors' release (Apache-2.0) belong into the folder
    `checkpoints` of torch.hub (`$TORCH_HOME/hub`, else ~/.cache/torch/hub). A missing file is downloaded.
    torchmetrics unpickles the files, which can run code: take them from the release and nowhere else.

    Args:
        regressor: the data set of human scores that the regressor was fitted to: "koniq10k" (authentic
            distortions) or "kadid10k" (synthetic distortions).
        segments: single frames taken over the duration.
        window: frames larger than this are cut to a square of this side, in pixels; None keeps them whole.
        device: where frames are scored.
        name: under which the scores are stored; "arniqa" or "arniqa-kadid10k" by default.

    Raises:
        InputError: the regressor is not known, or a file is absent and cannot be downloaded, or cannot be
            read.
    """

    def __init__(
        self,
        regressor: Literal["koniq10k", "kadid10k"] = "koniq10k",
        segments: int = 4,
        window: int | None = 512,
        device: str | torch.device = "cpu",
        name: str | None = None,
    ) -> None:
        check_choice("The regressor of ARNIQA", regressor, ("koniq10k", "kadid10k"))
        what = f"The weights of ARNIQA in {Path(torch.hub.get_dir()) / 'checkpoints'}"
        remedy = f"put ARNIQA.pth and regressor_{regressor}.pth of {RELEASE} there"
        with loading(what, remedy, OSError, RuntimeError, pickle.UnpicklingError):
            # The metric only averages over all images; its network gives a score for each.
            network = arniqa.ARNIQA(regressor).model
        depends_on = {
            "regressor": regressor,
            "weights": weights_hash(network.state_dict()),
            "torchmetrics": version("torchmetrics"),
        }
        name = name or ("arniqa" if regressor == "koniq10k" else f"arniqa-{regressor}")
        super().__init__(name, network, depends_on, Sampling(segments, frames=1, window=window), device)

    def score_frames(self, frames: Tensor) -> Tensor:
        """Score frames (N, C, H, W) in [0, 1], which the network normalises: (N,)."""
        scores: Tensor = self.network(frames, normalize=True)
        return scores
