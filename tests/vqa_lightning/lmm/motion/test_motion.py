"""What changes in time reaches the language model, on moving clips read as round.yaml reads them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from datamodules.distortions import DISTORTIONS
from datamodules.errors import InputError
from datamodules.video import Sampling, probe, read_clip
from vqa_lightning.lmm.motion import FrameDifferences, Motion, build_motion
from vqa_lightning.lmm.motion.fast_pathway import FastPathway

SAMPLING = Sampling(segments=1, frames=4, window=72)
MOVING = ("Seeking_30_480_1050.mp4", "vsfa_test.mp4", "foreman_cif.y4m", "park_joy_480x270_10f.y4m")
WIDTH = 32


@pytest.fixture(scope="module")
def clips(clips_folder: Path) -> tuple[Tensor, Tensor]:
    """Four draws of each moving clip: frames (B, T, 3, H, W) in [0, 1] and their times."""
    read = [
        read_clip(video, SAMPLING, draw)
        for video in (probe(clips_folder / name) for name in MOVING)
        for draw in range(4)
    ]
    return torch.stack([clip.frames for clip in read]) / 255, torch.stack([clip.times for clip in read])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict of a whole R(2+1)D-18, head and all, as torchvision publishes it."""
    path = tmp_path_factory.mktemp("weights") / "r2plus1d.pth"
    torch.manual_seed(1)
    torch.save(get_model("r2plus1d_18").state_dict(), path)
    return path


@pytest.mark.parametrize("name", ["jitter", "stutter", "frame_rate", "freeze"])
def test_no_level_of_a_temporal_distortion_is_hidden_from_the_differences(
    clips: tuple[Tensor, Tensor], name: str
) -> None:
    frames, times = clips
    torch.manual_seed(0)
    motion = FrameDifferences(SAMPLING.frames, WIDTH)
    with torch.no_grad():
        tokens = []
        for level in range(len(DISTORTIONS[name].levels) + 1):
            levels = torch.full((len(frames),), level)
            generator = torch.Generator().manual_seed(1)
            distorted = DISTORTIONS[name](frames, levels, times=times, generator=generator)
            tokens.append(motion(distorted).flatten(1))
        source = tokens[0].norm(dim=1)
        for level in range(1, len(tokens)):
            moved = (tokens[level] - tokens[level - 1]).norm(dim=1)
            # A hundredth of the token, far above float noise; a window may happen to be still, and the draws
            # of two levels may coincide on three repeatable frames: most clips, and not all.
            assert ((moved / source) > 0.01).float().mean() >= 0.75, (level, (moved / source).tolist())


@pytest.mark.parametrize(("kind", "frames"), [("r2plus1d_18", 4), ("mvit_v2_s", 32)])
def test_a_backbone_gives_what_torchvision_gives_its_head(
    clips: tuple[Tensor, Tensor], kind: Motion, frames: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    whole = get_model(kind).eval()
    seen = []
    whole.get_submodule("fc" if kind == "r2plus1d_18" else "head").register_forward_pre_hook(
        lambda _, given: seen.append(given[0])
    )
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    motion = build_motion(kind, frames, WIDTH, weights=str(tmp_path / "weights.pth"))
    # Clips of a few frames, run on and on, are long enough for either backbone.
    clip = clips[0][:1].repeat(1, frames // 4, 1, 1, 1)
    prepare = get_model_weights(kind)["DEFAULT"].transforms()
    with torch.no_grad():
        whole(prepare(clip[:, ::2].contiguous() if kind == "mvit_v2_s" else clip))
        assert torch.equal(motion(clip)[:, 0], motion.projector(seen[0]))


@pytest.mark.parametrize("kind", ["differences", "r2plus1d_18"])
def test_each_segment_has_its_own_token(clips: tuple[Tensor, Tensor], weights: Path, kind: Motion) -> None:
    motion = build_motion(kind, 4, WIDTH, None if kind == "differences" else str(weights))
    one, other = clips[0][:1], clips[0][-1:]
    with torch.no_grad():
        tokens = motion(torch.cat([one, other], dim=1))
        assert tokens.shape == (1, 2, WIDTH)
        # Convolutions of one clip and of two may add up in another order.
        assert torch.allclose(tokens[:, 0], motion(one)[:, 0], atol=1e-6)
        assert torch.allclose(tokens[:, 1], motion(other)[:, 0], atol=1e-6)
        assert not torch.allclose(tokens[:, 0], tokens[:, 1], atol=1e-6)


def test_frames_are_repeated_whole_where_a_backbone_takes_more(
    clips: tuple[Tensor, Tensor],
) -> None:
    with pytest.warns(UserWarning, match=r"mvit_v2_s is frozen at random weights.*motion_weights"):
        motion = build_motion("mvit_v2_s", 4, WIDTH)
    given: list[Tensor] = []
    motion.get_submodule("backbone").register_forward_pre_hook(lambda _, frames: given.append(frames[0]))
    with torch.no_grad():
        motion(clips[0][:1])
    groups = given[0][0].unflatten(1, (4, 4))
    assert torch.equal(groups, groups[:, :, :1].expand_as(groups))


def test_a_frozen_backbone_stays_as_it_is_in_training(clips: tuple[Tensor, Tensor], weights: Path) -> None:
    motion = build_motion("r2plus1d_18", 4, WIDTH, str(weights)).train()
    before = {name: value.clone() for name, value in motion.state_dict().items()}
    assert motion.training
    assert not any(module.training for module in motion.get_submodule("backbone").modules())
    optimizer = torch.optim.AdamW([p for p in motion.parameters() if p.requires_grad], lr=0.01)
    motion(clips[0][:1]).square().sum().backward()
    optimizer.step()
    changed = {name for name, value in motion.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"projector.{name}" for name in motion.projector.state_dict()}


def test_a_trained_backbone_learns_in_every_layer(clips: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    motion = build_motion("r2plus1d_18", 4, WIDTH, trained=True)
    assert all(module.training for module in motion.modules())
    motion(clips[0][:2]).square().sum().backward()
    for name, parameter in motion.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert not motion.eval().get_submodule("backbone").training


def test_published_weights_are_found_by_name(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # torch.hub's folder holds what it has downloaded before; these are random, under the published name.
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    published = get_model_weights("r2plus1d_18")["DEFAULT"]
    place = tmp_path / "hub" / "checkpoints" / published.url.rpartition("/")[2]
    place.parent.mkdir(parents=True)
    place.symlink_to(weights)
    motion = build_motion("r2plus1d_18", 4, WIDTH, "KINETICS400_V1")
    state = torch.load(weights, weights_only=True)
    for name, value in motion.get_submodule("backbone").state_dict().items():
        assert torch.equal(value, state[name])


@pytest.fixture(scope="module")
def slowfast(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FastPathway]:
    """A checkpoint as PyTorchVideo publishes it, of both pathways, and the fast pathway in it."""
    path = tmp_path_factory.mktemp("weights") / "SLOWFAST_8x8_R50.pyth"
    torch.manual_seed(2)
    fast = FastPathway()
    for module in fast.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean = torch.randn(module.num_features) / 10
            module.running_var = torch.rand(module.num_features) + 0.5
    state = {
        name.replace(".", f".{way}", 1).replace(way, f"multipathway_blocks.{pathway}."): value + 1 - pathway
        for pathway, way in ((0, "slow"), (1, "fast"))
        for name, value in (
            (name.removeprefix("blocks."), value) for name, value in fast.state_dict().items()
        )
    }
    state = {f"blocks.{name}": value for name, value in state.items()}
    torch.save({"model_state": {**state, "blocks.6.proj.weight": torch.zeros(400, 2304)}}, path)
    return path, fast.eval()


def test_the_fast_pathway_is_read_out_of_both(
    clips: tuple[Tensor, Tensor], slowfast: tuple[Path, FastPathway]
) -> None:
    path, fast = slowfast
    motion = build_motion("slowfast_r50_fast", 4, WIDTH, str(path))
    seen = nn.functional.interpolate(clips[0][0], (224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        features = motion.features(clips[0][:1])
        expected = fast((seen.transpose(0, 1)[None] - 0.45) / 0.225)
        # Convolutions of other strides in memory add up in another order.
        assert torch.allclose(features[0], expected, atol=1e-5)
    assert features.shape == (1, 1, 256)


def test_the_fast_pathway_has_the_published_sizes() -> None:
    sizes = {name: tuple(value.shape) for name, value in FastPathway().state_dict().items()}
    # As PyTorchVideo 0.1.5 has them in create_slowfast(model_depth=50), under multipathway_blocks.1.
    assert sum(name.endswith("conv.weight") or ".conv_" in name for name in sizes) == 1 + 3 * 16 + 4
    assert sizes["blocks.0.conv.weight"] == (8, 3, 5, 7, 7)
    assert sizes["blocks.1.res_blocks.0.branch1_conv.weight"] == (32, 8, 1, 1, 1)
    assert sizes["blocks.1.res_blocks.2.branch2.conv_a.weight"] == (8, 32, 3, 1, 1)
    assert sizes["blocks.3.res_blocks.5.branch2.conv_b.weight"] == (32, 32, 1, 3, 3)
    assert sizes["blocks.4.res_blocks.2.branch2.conv_c.weight"] == (256, 64, 1, 1, 1)


def test_no_weights_are_read_for_a_model_without_storage() -> None:
    with torch.device("meta"):
        motion = build_motion("r2plus1d_18", 4, WIDTH, "KINETICS400_V1")
    assert all(parameter.is_meta for parameter in motion.parameters())


def test_what_cannot_be_loaded_is_named(weights: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.pth"
    torn.write_bytes(weights.read_bytes()[:1000])
    other = tmp_path / "other.pth"
    torch.save(nn.Linear(1, 1).state_dict(), other)
    for kind, given, named in (
        (
            "r2plus1d_18",
            "KINETICS400",
            "neither a file nor .* of r2plus1d_18.*KINETICS400_V1",
        ),
        ("r2plus1d_18", str(torn), r"torn\.pth' cannot be read"),
        ("r2plus1d_18", str(other), r"other\.pth' does not hold the weights of r2plus1d_18"),
        ("differences", "KINETICS400_V1", "asks for a backbone"),
    ):
        with pytest.raises(InputError, match=rf"model\.lmm\.motion_weights.*{named}"):
            build_motion(kind, 4, WIDTH, given)
    with pytest.raises(InputError, match=r"model\.lmm\.motion_trained True asks for a backbone"):
        build_motion("differences", 4, WIDTH, trained=True)
    with pytest.raises(InputError, match=r"model\.sampling\.frames must be 2 or more .*; got 1"):
        build_motion("differences", 1, WIDTH)
