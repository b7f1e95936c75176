"""A model of the Q-Align kind: a transformers repository whose own code has a `score` method.

That code runs with all rights of the user who loads it, so nothing is loaded before the user allows it. The
fingerprint is a hash of the whole repository, code included, wherever the repository lies.
"""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from transformers import AutoModelForCausalLM

from datamodules.errors import InputError
from datamodules.files import file_hash
from datamodules.teachers.networks.network import NetworkTeacher, loading
from datamodules.video import Sampling


class QAlign(NetworkTeacher):
    """Q-Align (Wu et al., ICML 2024) and models like it, such as q-future/one-align: 1 to 5, higher better.

    The repository is loaded by `AutoModelForCausalLM` with its own code, and asked
    `model.score([frames of a video as PIL images], task_="quality", input_="video")`. It must run under the
    installed transformers. The licence of code and weights is the repository's.

    Args:
        repository: a folder, or a hub name, which is downloaded whole.
        trust_remote_code: True says that you have read the repository's code and want it to be run.
        segments: frames taken over the duration, which the model sees together; Q-Align was trained on one
            frame a second.
        window: frames larger than this are cut to a square of this side, in pixels; None keeps them whole.
        device: where the model runs.
        name: under which the scores are stored; "q-align" by default.

    Raises:
        InputError: the code is not trusted, or the repository cannot be loaded or has no such method.
    """

    batch_clips = 1  # whole frames, and a large model
    by_segment = False

    def __init__(
        self,
        repository: str,
        trust_remote_code: bool = False,
        segments: int = 8,
        window: int | None = None,
        device: str | torch.device = "cpu",
        name: str | None = None,
    ) -> None:
        if not trust_remote_code:
            raise InputError(
                f"QAlign runs the Python code in {repository}, which can do to your files and accounts "
                "whatever you can; read that code, then set trust_remote_code to true."
            )
        remedy = (
            "give a folder or a hub name within reach, whose code has a causal language model with the "
            "method score and runs under the installed transformers"
        )
        what = f"The Q-Align model {repository}"
        with loading(what, remedy, OSError, ValueError, ImportError, AttributeError):
            folder = Path(repository) if Path(repository).is_dir() else Path(snapshot_download(repository))
            network = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)  # in eval mode
            self._score: Any = network.score
        sampling = Sampling(segments, frames=1, window=window)
        super().__init__(name or "q-align", network, {"repository": file_hash(folder)}, sampling, device)

    def score(self, clips: Tensor) -> Tensor:
        """Score clips (B, T, C, H, W) in [0, 1]: (B,), each from all its frames together."""
        videos = [[to_pil_image(frame) for frame in clip] for clip in (clips * 255).round().byte().cpu()]
        scores: Tensor = self._score(videos, task_="quality", input_="video")
        return scores.float().reshape(len(clips))
