"""CLIP-IQA through torchmetrics, with any CLIP that transformers can load.

torchmetrics 1.9 fails on the output objects of transformers 5. It also lets CLIP's processor divide images in
[0, 1] by 255 once more, which makes them black. Both are set right where the model is handed over.
"""

import json
from importlib.metadata import version
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torchmetrics.multimodal import CLIPImageQualityAssessment
from transformers import CLIPModel, CLIPProcessor

from datamodules.errors import InputError
from datamodules.files import weights_hash
from datamodules.teachers.networks.network import NetworkTeacher, loading
from datamodules.video import Sampling

PUBLISHED = "clip_iqa"
"""torchmetrics' name of the model of the paper."""


class CLIPIQA(NetworkTeacher):
    """Probability in [0, 1] that a frame suits "Good photo." rather than "Bad photo.".

    After Wang, Chan and Loy (AAAI 2023). The paper's own model, a CLIP ResNet-50 without positional
    embedding, comes from the package `piq` (extra clip-iqa). piq downloads its weights (a TorchScript
    archive) to ~/.cache/clip, and transformers downloads its tokenizer. Any other CLIP needs no extra and
    can lie in a folder; its processor resizes and crops frames as the model was trained.

    Args:
        model: "clip_iqa" for the paper's model, else a folder or hub name of a CLIP with its processor, such
            as "openai/clip-vit-base-patch16".
        segments: single frames taken over the duration.
        window: frames larger than this are cut to a square of this side, in pixels; None keeps them whole.
        device: where frames are scored.
        name: under which the scores are stored; "clip-iqa" by default.

    Raises:
        InputError: the extra is missing, or the model cannot be loaded.
    """

    def __init__(
        self,
        model: str = PUBLISHED,
        segments: int = 4,
        window: int | None = 512,
        device: str | torch.device = "cpu",
        name: str | None = None,
    ) -> None:
        if model == PUBLISHED and find_spec("piq") is None:
            raise InputError(
                "CLIPIQA with the paper's model needs the package piq, which is not installed; install "
                "vqa-lightning[clip-iqa], or name a folder that holds a CLIP of transformers."
            )
        remedy = (
            "name a folder or a hub repository with config, weights, tokenizer and preprocessor, "
            "or go online once"
        )
        with loading(f"The CLIP {model!r}", remedy, OSError, ValueError):
            source = PUBLISHED if model == PUBLISHED else lambda: _load(model)
            # Ranks score different numbers of batches: a synchronised compute would wait for ever.
            metric = CLIPImageQualityAssessment(source, sync_on_compute=False)  # type: ignore[arg-type]
        depends_on = {
            "weights": weights_hash(metric.model.state_dict()),
            "processor": json.loads(metric.processor.image_processor.to_json_string()),
            "torchmetrics": version("torchmetrics"),
        }
        sampling = Sampling(segments, frames=1, window=window)
        super().__init__(name or "clip-iqa", metric.eval(), depends_on, sampling, device)

    def score_frames(self, frames: Tensor) -> Tensor:
        """Score frames (N, C, H, W) in [0, 1]: (N,) probabilities."""
        self.network.update(frames)
        probabilities: Tensor = self.network.compute()  # a dict only for several prompts
        self.network.reset()
        return probabilities


class _TensorFeatures(nn.Module):
    """A CLIP of transformers whose features are tensors, as torchmetrics takes them."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip

    def get_text_features(self, ids: Tensor, mask: Tensor) -> Tensor:
        features: Tensor = self.clip.get_text_features(ids, mask).pooler_output
        return features

    def get_image_features(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.clip.get_image_features(pixels).pooler_output
        return features


def _load(model: str) -> tuple[_TensorFeatures, CLIPProcessor]:
    processor = CLIPProcessor.from_pretrained(model)
    processor.image_processor.do_rescale = False
    return _TensorFeatures(CLIPModel.from_pretrained(model, dtype=torch.float32)), processor
