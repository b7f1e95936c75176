"""What benchmarks/step.py holds ours against, on equal weights: a plain torch loop, the released code's way.

Both work on the transformers model inside a RankingModule, by its own forward. A checkpoint of a published
model's sizes is written here as well, so that it is loaded by the code that loads a published one.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch.nn import functional as F
from transformers import AutoModelForImageTextToText, LlavaOnevisionProcessor
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from datamodules.batches import PairBatch
from datamodules.labels import LEVELS
from vqa_lightning.families.embedded import build_tokenizer, build_video_processor
from vqa_lightning.families.published import published_config
from vqa_lightning.lmm.prompt import ANSWER, QUESTION, QWEN_CHAT, SYSTEM
from vqa_lightning.training import RankingModule

Step = Callable[[], int]
"""Runs one training step and says how many pairs it took."""


def _batches(trainer: Trainer) -> Iterator[PairBatch]:
    """Yield the same pairs as the Trainer's, from a loader of their own, again and again."""
    while True:
        yield from trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]


def _update(trainer: Trainer, module: RankingModule) -> Callable[[Any, torch.Tensor, torch.Tensor], None]:
    """Return one step of AdamW on the family's own forward and the level words' cross-entropy."""
    model, words = module.lmm.model, module.lmm.answer_ids
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)

    def update(ids: torch.Tensor, pixels: torch.Tensor, target: torch.Tensor) -> None:
        optimizer.zero_grad()
        with trainer.precision_plugin.forward_context():
            logits = model(
                input_ids=ids, pixel_values_videos=pixels, logits_to_keep=1, use_cache=False
            ).logits
            loss = F.cross_entropy(logits[:, -1, words].float(), target)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return update


def _prompt(module: RankingModule, side: int) -> torch.Tensor:
    """Return the token ids (L,) of the whole prompt, placeholders of both videos included."""
    size = module.lmm.family.size_for(side, side, len(module.lmm.seconds))
    return torch.tensor(list(chain(*module.lmm.prompt_ids(size))), device=module.device)


def bare_loop(trainer: Trainer, module: RankingModule, both_orders: bool) -> Step:
    """Return a step as one would write it without this package, on the same weights, pairs and precision."""
    family, batches, update = module.lmm.family, _batches(trainer), _update(trainer, module)

    def step() -> int:
        batch = next(batches)
        assert isinstance(batch.clips, torch.Tensor)
        clips = batch.clips.to(module.device, non_blocking=True).transpose(0, 1)  # (B, 2, T, 3, H, W)
        levels = batch.levels.to(module.device)
        height, width = clips.shape[-2:]
        size = family.size_for(height, width, len(module.lmm.seconds))
        pixels = family.normalise(family.resize(clips.flatten(0, 1) / 255, size))
        pixels = pixels.view(*clips.shape[:4], *size)
        if both_orders:
            pixels, levels = torch.cat([pixels, pixels.flip(1)]), torch.cat([levels, levels.flip(-1)])
        ids = _prompt(module, clips.shape[-1]).expand(len(pixels), -1)
        update(ids, pixels.flatten(0, 1), levels)
        return len(batch.row)

    return step


def released_loop(trainer: Trainer, module: RankingModule) -> Step:
    """Return a step of one pair, each of its frames through PIL and a processor on the CPU."""
    family, update = module.lmm.family, _update(trainer, module)
    pairs = (
        (torch.stack([batch.sides()[row], batch.sides()[len(batch.row) + row]]), batch.levels[row : row + 1])
        for batch in _batches(trainer)
        for row in range(len(batch.row))
    )
    vision, settings = family.model.config.vision_config, family.video_processor
    processor = SiglipImageProcessorPil(
        size={"height": vision.image_size, "width": vision.image_size},
        image_mean=settings.image_mean,
        image_std=settings.image_std,
    )

    def step() -> int:
        clips, levels = next(pairs)
        frames = [
            processor(Image.fromarray(frame.permute(1, 2, 0).numpy()), return_tensors="pt").pixel_values
            for frame in clips.flatten(0, 1)
        ]
        pixels = torch.stack(torch.cat(frames).chunk(2)).to(module.device)
        update(_prompt(module, clips.shape[-1])[None], pixels, levels.to(module.device))
        return 1

    return step


def write_checkpoint(name: str, folder: Path, device: torch.device) -> Path:
    """Save a checkpoint of a published model's sizes with random weights and a small vocabulary."""
    config = published_config(name)
    tokenizer = build_tokenizer((QWEN_CHAT, SYSTEM, QUESTION, ANSWER, *LEVELS))
    config.video_token_index = tokenizer.vocab["<video>"]
    config.image_token_index = tokenizer.vocab["<image>"]
    with device:
        model = AutoModelForImageTextToText.from_config(  # type: ignore[no-untyped-call]
            config, dtype=torch.bfloat16
        )
    model.save_pretrained(folder)
    vision = config.vision_config
    LlavaOnevisionProcessor(  # type: ignore[no-untyped-call]
        image_processor=SiglipImageProcessorPil(
            size={"height": vision.image_size, "width": vision.image_size}
        ),
        tokenizer=tokenizer,
        video_processor=build_video_processor(vision.image_size),
        num_image_tokens=(vision.image_size // vision.patch_size) ** 2,
    ).save_pretrained(folder)
    return folder
