"""One tiny checkpoint of every family, saved once and loaded as a published one would be."""

from pathlib import Path

import pytest
import torch

from datamodules.labels import LEVELS
from datamodules.video import Sampling
from vqa_lightning.families import FAMILIES, EmbeddedSizes
from vqa_lightning.families.embedded import CHAT_TEMPLATE
from vqa_lightning.lmm import LMM, LMMConfig
from vqa_lightning.lmm.prompt import ANSWER, QUESTION, SYSTEM

SIZES = EmbeddedSizes(image_size=32, patch_size=8, hidden_size=32, vision_layers=2, text_layers=2)


@pytest.fixture(scope="session", params=FAMILIES)
def family_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Family -> its checkpoint, every parameter moved off the zero or one from which some of them start."""
    torch.manual_seed(0)
    saved = {}
    for name, kind in FAMILIES.items():
        family = kind.embedded(SIZES, (SYSTEM, QUESTION, ANSWER, *LEVELS, "user assistant"))
        family.processor.chat_template = family.processor.chat_template or CHAT_TEMPLATE
        with torch.no_grad():
            for parameter in family.model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        saved[name] = tmp_path_factory.mktemp(name)
        family.model.save_pretrained(saved[name])
        family.processor.save_pretrained(saved[name])
    return saved


@pytest.fixture(scope="session")
def lmm(family_name: str, folders: dict[str, Path]) -> LMM:
    """Two segments of three frames, so that Qwen3-VL's pairs of frames straddle a second."""
    return load(folders[family_name])


@pytest.fixture(scope="session")
def qwen3_vl(folders: dict[str, Path]) -> LMM:
    return load(folders["qwen3_vl"])


@pytest.fixture
def checkpointing_lmm(family_name: str, folders: dict[str, Path]) -> LMM:
    """The same model with its parameters trained and its activations recomputed."""
    return load(folders[family_name], checkpointing=True).requires_grad_(True)


def load(folder: Path, *, checkpointing: bool = False) -> LMM:
    torch.manual_seed(1)  # of the score head
    sampling = Sampling(segments=2, frames=3, spacing=1.0, window=None)
    config = LMMConfig(pretrained=str(folder), checkpointing=checkpointing)
    return LMM(config, sampling).requires_grad_(False)
