"""Any model that was saved as a file with its graph, TorchScript or torch.export, as a teacher.

The file's own hash is in the fingerprint. Loading such a file can run code that its maker chose: TorchScript
is a program, and an exported program may hold pickled objects, which `torch.export.load` unpickles.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.export.passes import move_to_device_pass
from torch.export.pt2_archive import is_pt2_package

from datamodules.checks import check_choice
from datamodules.errors import InputError
from datamodules.files import file_hash
from datamodules.teachers.networks.network import NetworkTeacher, loading
from datamodules.teachers.teacher import name_of_file
from datamodules.video import Sampling

Layout = Literal["btchw", "bcthw", "bchw"]
"""Axes of the model's input; with "bchw" each frame is scored by itself and a clip has their mean."""

AXES = {"btchw": (0, 1, 2, 3, 4), "bcthw": (0, 2, 1, 3, 4)}


class ExportedModel(NetworkTeacher):
    """A TorchScript file (`torch.jit.save`) or an exported program (`torch.export.save`).

    The model takes float RGB, (x - mean) / std of x in [0, 1], and returns one number for each of the batch.
    Export it with a dynamic batch size: the last batch is smaller, and with "bchw" frames are the batch.

    Only load files whose maker you trust: loading such a file can run code.

    Args:
        path: the file.
        layout: axes of the model's input: "btchw", "bcthw", or "bchw" for a model of single frames.
        size: height and width to which frames are resized, bilinear and antialiased; None keeps their own.
        mean: of each channel, on [0, 1].
        std: of each channel, on [0, 1].
        higher_is_better: False turns the sign of the model's output.
        segments: runs of frames taken over the duration.
        frames: consecutive frames of a run, which a "btchw" or "bcthw" model sees at once.
        window: frames larger than this are cut to a square of this side, in pixels; None keeps them whole.
        name: under which the scores are stored; the file's stem by default.
        device: where the model runs.

    Raises:
        InputError: the layout is not known, a std is 0 or less, or the file is absent or no such model.
    """

    def __init__(
        self,
        path: str,
        layout: Layout = "btchw",
        size: tuple[int, int] | None = None,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        higher_is_better: bool = True,
        segments: int = 4,
        frames: int = 8,
        window: int | None = 512,
        name: str | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        check_choice("The layout of ExportedModel", layout, (*AXES, "bchw"))
        if len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std):
            raise InputError(
                "The mean and std of ExportedModel must be three numbers each, the std above 0; "
                f"got {mean} and {std}."
            )
        self.layout, self.higher_is_better = layout, higher_is_better
        self.size = None if size is None else (size[0], size[1])
        self.mean, self.std = list(mean), list(std)
        self._path, self._loaded_on = Path(path), torch.device(device)
        network = _load(self._path, self._loaded_on)
        depends_on = {
            "file": file_hash(self._path),
            "layout": layout,
            "size": self.size,
            "mean": self.mean,
            "std": self.std,
            "higher_is_better": higher_is_better,
        }
        sampling = Sampling(segments, frames, window=window)
        super().__init__(name or name_of_file(self._path), network, depends_on, sampling, device)

    def fit(self, workers: int) -> None:
        """Load the model anew if it is to run on another device.

        Raises:
            InputError: the file is absent or no such model any more.
        """
        if self._loaded_on != self.device:  # moved, a traced graph would leave its constants behind
            self.network, self._loaded_on = _load(self._path, self.device), self.device

    def score(self, clips: Tensor) -> Tensor:
        """Score clips (B, T, C, H, W) in [0, 1]: (B,), the model's output with its sign turned if asked.

        Raises:
            InputError: the model refuses the input, or returns another number of scores than it was given.
        """
        images = clips.flatten(0, 1)
        if self.size is not None:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        images = (images - mean) / std
        if self.layout != "bchw":
            images = images.view(*clips.shape[:3], *images.shape[2:]).permute(AXES[self.layout])
        try:
            scores: Tensor = self.network(images)
        except torch.OutOfMemoryError:  # a RuntimeError too, but no fault of the input
            raise
        except (RuntimeError, AssertionError) as error:  # what a guard of either kind of file raises
            reason = str(error).strip().rpartition("\n")[2].rstrip(".")
            raise InputError(
                f"The model of teacher {self.name} refuses input of shape {tuple(images.shape)} ({reason}); "
                "give the layout, size and frames that it was exported for; the batch must be dynamic."
            ) from error
        if scores.numel() != len(images):
            raise InputError(
                f"The model of teacher {self.name} must return one score for each of a batch of "
                f"{len(images)}; got the shape {tuple(scores.shape)}."
            )
        scores = scores.reshape(len(clips), -1).mean(dim=1)
        return scores if self.higher_is_better else -scores


def _load(path: Path, device: torch.device) -> Any:
    remedy = f"name a TorchScript file or an exported program that PyTorch {torch.__version__} can load"
    with loading(f"The model file {path}", remedy, RuntimeError, ValueError, OSError):
        if is_pt2_package(str(path)):
            return move_to_device_pass(torch.export.load(path), device).module()
        script: torch.jit.ScriptModule = torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call]
        return script.eval()
