"""The base of teachers that are networks: weights are loaded once, hashed, and moved to where they score.

Loading needs things that may be missing (a library, a file, a connection), and each failure is one sentence.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from datamodules.errors import InputError
from datamodules.teachers.teacher import Teacher
from datamodules.video import Sampling


@contextmanager
def loading(what: str, remedy: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn an error while something is loaded into one sentence.

    Args:
        what: is loaded, as the subject of the sentence.
        remedy: what the user can do.
        errors: that mean bad input; others pass.

    Raises:
        InputError: one of the errors was raised.
    """
    try:
        yield
    except errors as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
        raise InputError(f"{what} cannot be loaded ({reason}); {remedy}.") from error


class NetworkTeacher(Teacher):
    """A teacher that asks a network for a score of each frame.

    A subclass loads its network within `loading` and hands it over. It overrides `score_frames` where the
    network is not called with frames alone, and `score` where the network sees whole clips.

    Args:
        name: under which the scores are stored.
        network: a module in eval mode, on the CPU.
        depends_on: everything besides the sampling that decides a score, in plain types: hashes of weights,
            versions of libraries, settings of the network. It becomes part of the fingerprint.
        sampling: how clips are cut.
        device: where the network scores.
    """

    def __init__(
        self,
        name: str,
        network: Any,
        depends_on: Mapping[str, object],
        sampling: Sampling,
        device: str | torch.device,
    ) -> None:
        super().__init__(name, sampling, device=device)
        self.network = network  # of any type, for its methods are its library's
        self.depends_on = depends_on

    def fit(self, workers: int) -> None:
        """Move the network to the device on which it scores."""
        self.network.to(self.device)

    @property
    def settings(self) -> Mapping[str, object]:
        """Also what the network's scores depend on."""
        return {**super().settings, **self.depends_on}

    def score(self, clips: Tensor) -> Tensor:
        """Score clips (B, T, C, H, W) in [0, 1]: (B,), the mean over frames that have a score."""
        scores = self.score_frames(clips.flatten(0, 1))
        return scores.reshape(clips.shape[:2]).nanmean(dim=1)

    def score_frames(self, frames: Tensor) -> Tensor:
        """Score frames (N, C, H, W) in [0, 1]: N numbers, higher better."""
        scores: Tensor = self.network(frames)
        return scores
