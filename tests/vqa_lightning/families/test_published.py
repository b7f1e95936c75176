import pytest
import torch
from transformers import AutoModelForImageTextToText

from datamodules.errors import InputError
from vqa_lightning.families import FAMILIES
from vqa_lightning.families.published import PUBLISHED, published_config

MILLIONS = {
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": 894,
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": 8030,
    "Qwen/Qwen3-VL-2B-Instruct": 2127,
    "Qwen/Qwen3-VL-4B-Instruct": 4438,
    "Qwen/Qwen3-VL-8B-Instruct": 8767,
    "HuggingFaceTB/SmolVLM2-256M-Video-Instruct": 256,
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": 507,
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": 2247,
    "OpenGVLab/InternVL3-1B-hf": 938,
}
"""Parameters as the Hub shows them."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_model_of_the_config_has_the_checkpoints_parameters(name: str) -> None:
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(published_config(name))
    assert model.config.model_type in FAMILIES
    counted = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    # The Hub rounds to three digits, and a padded vocabulary may be counted or not.
    assert counted == pytest.approx(MILLIONS[name], rel=0.01)


def test_an_unknown_name() -> None:
    with pytest.raises(InputError, match=r"sizes .*Qwen/Qwen3-VL-2B-Instruct.*; got 'nobody/nothing'\.$"):
        published_config("nobody/nothing")
