"""ARNIQA through torchmetrics, on weights that torch.hub finds or downloads.

torchmetrics asks torch.hub for the two files by their URL and takes no others, so a user without a network
puts them where torch.hub looks first.
"""

import pickle
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torchmetrics.image import arniqa

from datamodules.errors import InputError
from datamodules.files import weights_hash
from datamodules.teachers.teacher import Teacher
from datamodules.video import Sampling

RELEASE = "https://github.com/miccunifi/ARNIQA/releases/tag/weights"


class ARNIQA(Teacher):
    """ARNIQA (Agnolucci, Galteri, Bertini and Del Bimbo, WACV 2024): about 0 to 1, higher better.

    The files ARNIQA.pth and regressor_DATASET.pth of the authors' release (Apache-2.0) belong into the folder
    `checkpoints` of torch.hub (`$TORCH_HOME/hub`, else ~/.cache/torch/hub); what is missing is downloaded.
    torchmetrics unpickles them, which can run code: take them from the release and nowhere else.

    Args:
        regressor: the data set of human scores that the regressor was fitted to: "koniq10k" (authentic
            distortions) or "kadid10k" (synthetic ones).
        segments: single frames taken over the duration.
        window: frames larger than this are cut to a square of this side, in pixels; None keeps them whole.
        device: where frames are scored.
        name: under which the scores are stored; "arniqa" or "arniqa-kadid10k" by default.

    Raises:
        InputError: if the regressor is not known, or a file is neither there nor can be downloaded or read.
    """

    def __init__(
        self,
        regressor: Literal["koniq10k", "kadid10k"] = "koniq10k",
        segments: int = 4,
        window: int | None = 512,
        device: str | torch.device = "cpu",
        name: str | None = None,
    ) -> None:
        sampling = Sampling(segments=segments, frames=1, window=window)
        default = "arniqa" if regressor == "koniq10k" else f"arniqa-{regressor}"
        super().__init__(name or default, sampling, device=device)
        if regressor not in ("koniq10k", "kadid10k"):
            raise InputError(f"The regressor {regressor!r} is not known; give koniq10k or kadid10k.")
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        try:
            # The metric only averages over all images; its network gives a score for each.
            self._network = arniqa.ARNIQA(regressor).model
        except (OSError, RuntimeError, pickle.UnpicklingError) as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise InputError(
                f"ARNIQA's weights in {folder} are damaged, or missing and out of reach ({reason}); "
                f"put ARNIQA.pth and regressor_{regressor}.pth of {RELEASE} there."
            ) from error
        self.regressor = regressor
        self._weights = weights_hash(self._network.state_dict())

    def fit(self, workers: int) -> None:
        """Moves the network to where it is to score."""
        self._network.to(self.device)

    @property
    def settings(self) -> Mapping[str, object]:
        """Also the regressor's scale, a hash of all weights and torchmetrics' version."""
        return {
            **super().settings,
            "regressor": self.regressor,
            "weights": self._weights,
            "torchmetrics": version("torchmetrics"),
        }

    def score(self, clips: Tensor) -> Tensor:
        """Score clips (B, T, C, H, W) in [0, 1]: (B,), the mean over frames."""
        scores: Tensor = self._network(clips.flatten(0, 1), normalize=True)
        return scores.view(clips.shape[:2]).mean(dim=1)
