"""The code of CONTRIBUTING.md: its simulator, its teacher and its family, made in a folder of one's own."""

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped]
from jsonargparse import auto_cli
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextImageProcessor,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
)

from datamodules.codecs import Codec
from datamodules.corpus import build_corpus, videos
from datamodules.distortions import Distortion, apply
from datamodules.labels import LEVELS, Annotator, Request
from datamodules.video import Sampling
from vqa_lightning.families import FAMILIES
from vqa_lightning.families.embedded import CHAT_TEMPLATE, build_tokenizer
from vqa_lightning.lmm import LMM, LMMConfig
from vqa_lightning.lmm.prompt import ANSWER, QUESTION, SYSTEM

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder with every module of the page, under the name that its first line gives it."""
    for name, code in re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [path.stem for path in tmp_path.glob("*.py")]:
        sys.modules.pop(name, None)


def block(heading: str) -> dict[str, Any]:
    """The settings of the data in the config below a heading."""
    (text,) = re.findall(rf"^## {heading}\n.*?```yaml\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    settings: dict[str, Any] = yaml.safe_load(text)["data"]["init_args"]
    return settings


def parsed(component: Any, settings: dict[str, Any], folder: Path) -> Any:
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    return auto_cli(component, args=["--config", str(config)])


def test_the_simulator(written: Path) -> None:
    def simulators_of(simulators: list[str | Distortion | Codec]) -> list[str | Distortion | Codec]:
        return simulators

    _, fade = parsed(simulators_of, block("Add a simulator"), written)
    clips = torch.rand(4, 2, 3, 8, 8)
    faded = apply(clips, ["fade"] * 4, torch.arange(4), distortions={"fade": fade})
    left = faded.mean(dim=(1, 2, 3, 4)) / clips.mean(dim=(1, 2, 3, 4))
    assert left.tolist() == pytest.approx([1, 0.8, 0.5, 0.2])
    assert faded[0].equal(clips[0])


def test_the_teacher(written: Path, mixed_corpus: Path) -> None:
    def teachers_of(teachers: list[Annotator]) -> list[Annotator]:
        return teachers

    _, teacher = parsed(teachers_of, block("Add a teacher"), written)
    darken = Distortion("darken", lambda clips, *_: clips / 2, levels=(1.0,))
    video = videos(build_corpus(mixed_corpus))[0]
    bright, dark = teacher.annotate([Request(video), Request(video, darken, 1)])
    assert dark.score == pytest.approx(bright.score / 2)
    assert bright.stderr > 0


def checkpoint(folder: Path, module: ModuleType) -> Path:
    """LLaVA-NeXT-Video as published, but tiny."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer((SYSTEM, QUESTION, ANSWER, *LEVELS, "user assistant"))
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 1}
    config = LlavaNextVideoConfig(
        vision_config=CLIPVisionConfig(**sizes, num_hidden_layers=2, image_size=32, patch_size=8),
        text_config=LlamaConfig(**sizes, vocab_size=len(tokenizer), num_hidden_layers=1),
        image_token_index=tokenizer.vocab["<image>"],
        video_token_index=tokenizer.vocab[module.LlavaNextVideo.video],
    )
    crop = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    processor = LlavaNextVideoProcessor(
        image_processor=LlavaNextImageProcessor(**crop),
        video_processor=LlavaNextVideoVideoProcessor(**crop),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
        patch_size=8,
        vision_feature_select_strategy="default",
    )
    LlavaNextVideoForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_the_family(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says of two clips what the model says by way of its own processor."""
    monkeypatch.setitem(FAMILIES, "llava_next_video", FAMILIES["llava_onevision"])  # taken out at the end
    folder = checkpoint(written / "checkpoint", import_module("llava_next_video"))
    lmm = LMM(LMMConfig(pretrained=str(folder)), Sampling(segments=2, frames=3, window=None))
    first, second = torch.randint(256, (2, 6, 3, 48, 48), dtype=torch.uint8)
    said = [("system", SYSTEM), ("user", QUESTION.format(video="<video>"))]
    text = lmm.family.processor.apply_chat_template(
        [{"role": role, "content": [{"type": "text", "text": words}]} for role, words in said],
        tokenize=False,
        add_generation_prompt=True,
    )
    inputs = lmm.family.processor(text=[text + ANSWER], videos=[first, second], return_tensors="pt")
    words = [lmm.family.tokenizer(f" {level}", add_special_tokens=False).input_ids[0] for level in LEVELS]
    theirs = lmm.model(**inputs).logits[0, -1, words]
    ours = lmm(torch.stack([first, second]) / 255).levels
    assert ours is not None
    assert torch.allclose(ours[0, 0], theirs, atol=1e-4)  # the resize of bytes, and float32
