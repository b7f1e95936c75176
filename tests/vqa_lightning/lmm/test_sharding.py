"""Two processes over gloo, started by this file, share out a tiny LMM; a whole one says what is right."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from datamodules.video import Sampling
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMM, LMMConfig
from vqa_lightning.lmm.sharding import blocks, build_on_meta, build_sharded, shard
from vqa_lightning.losses import OrderedProbit

pytestmark = pytest.mark.slow

SAMPLING = Sampling(segments=1, frames=2, window=24)
SIZES = LMMConfig(
    motion="differences",
    checkpointing=True,
    embedded=EmbeddedSizes(image_size=16, hidden_size=64, vision_layers=2, text_layers=2),
)


def build(folder: Path, case: str, weights: bool = True) -> LMM:
    """The embedded model; or a checkpoint, its language model frozen in bfloat16 as `paper` has it."""
    torch.manual_seed(3)
    if case == "embedded":
        return LMM(SIZES, SAMPLING)
    config = LMMConfig(pretrained=str(folder / "checkpoint"), motion="differences", checkpointing=True)
    lmm = LMM(config, SAMPLING, weights=weights)
    lmm.family.language_model.requires_grad_(False)
    lmm.family.language_model.to(torch.bfloat16)
    return lmm


def clips() -> Tensor:
    """Four pairs (2, 4, T, 3, H, W); the processes take two each."""
    return torch.rand(2, 4, 2, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def step(lmm: LMM, pairs: Tensor) -> dict[str, Any]:
    """Judges pairs (2, B, T, 3, H, W) and takes the gradient of a mean over them."""
    judged = lmm(pairs.flatten(0, 1))
    loss = judged.levels.log_softmax(-1)[..., 0].mean() + judged.scores.mean()
    loss.backward()
    gradients = {name: p.grad for name, p in lmm.named_parameters() if p.grad is not None}
    return {"levels": judged.levels.detach(), "scores": judged.scores.detach(), "gradients": gradients}


def rate(lmm: LMM, pairs: Tensor) -> Tensor:
    """Scores by the methods that are no forward."""
    with torch.no_grad():
        return lmm.score(lmm.encode(pairs.flatten(0, 1)))


def log_levels(probit: OrderedProbit, rank: int) -> Tensor:
    """What a process has the ordered probit say, summed to a number."""
    return probit.log_levels(torch.full((1,), float(rank)), torch.zeros(1, dtype=torch.long)).sum()


def in_process(folder: Path, rank: int) -> None:
    """What each of the two processes does."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    mine = clips()[:, 2 * rank : 2 * rank + 2]
    found: dict[str, Any] = {}
    for case in ("embedded", "checkpoint"):
        torch.manual_seed(rank)
        before = torch.get_rng_state()
        lmm = build_sharded(lambda weights, case=case: build(folder, case, weights), mesh)
        found[case] = {
            "same_random_state": torch.equal(before, torch.get_rng_state()),
            "held": sum(p.to_local().nbytes for p in lmm.parameters() if isinstance(p, DTensor)),
            "rated": rate(lmm, mine),
            **step(lmm, mine),
            "parameters": {name: p.detach().full_tensor() for name, p in lmm.named_parameters()},
        }
        gradients = found[case]["gradients"]
        found[case]["gradients"] = {name: gradient.full_tensor() for name, gradient in gradients.items()}
    probit = OrderedProbit()
    shard(probit, mesh, methods=["log_levels"])
    log_levels(probit, rank).backward()
    found["probit"] = probit.steps.grad.full_tensor()
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    family = build(folder, "embedded").family
    family.model.save_pretrained(folder / "checkpoint")
    family.processor.save_pretrained(folder / "checkpoint")
    started = [subprocess.Popen([sys.executable, __file__, str(folder), str(rank)]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    return folder


@pytest.fixture(scope="module", params=["embedded", "checkpoint"])
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def found(folder: Path, case: str) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{rank}.pt", weights_only=True)[case] for rank in range(2)]


@pytest.fixture(scope="module")
def whole(folder: Path, case: str) -> LMM:
    return build(folder, case)


def test_all_weights_arrive_tied_ones_included(found: list[dict[str, Any]], whole: LMM) -> None:
    expected = dict(whole.named_parameters())
    for one in found:
        assert one["parameters"].keys() == expected.keys()
        for name, parameter in expected.items():
            assert one["parameters"][name].dtype == parameter.dtype
            assert torch.equal(one["parameters"][name], parameter), name


def test_each_process_holds_half(found: list[dict[str, Any]], whole: LMM) -> None:
    total = sum(p.nbytes for p in whole.parameters())
    assert sum(one["held"] for one in found) == total
    # Tables of an odd number of rows leave one process a row more.
    assert found[0]["held"] == pytest.approx(total / 2, rel=0.01)


def test_random_numbers_go_on_as_if_nothing_was_built(found: list[dict[str, Any]]) -> None:
    assert all(one["same_random_state"] for one in found)


def test_outputs_and_gradients_equal_those_of_the_whole_model(
    found: list[dict[str, Any]], whole: LMM
) -> None:
    # Gradients of two pairs and two more are summed in another order than those of four: float32's last bits.
    tolerance = {"rtol": 1e-5, "atol": 1e-6}
    rated = rate(whole, clips()).view(2, 4)
    expected = step(whole, clips())
    for rank, one in enumerate(found):
        mine = slice(2 * rank, 2 * rank + 2)
        torch.testing.assert_close(one["levels"], expected["levels"][:, mine], **tolerance)
        torch.testing.assert_close(one["scores"], expected["scores"][:, mine], **tolerance)
        torch.testing.assert_close(one["rated"].view(2, 2), rated[:, mine], **tolerance)
        assert one["gradients"].keys() == expected["gradients"].keys()
        for name, gradient in expected["gradients"].items():
            torch.testing.assert_close(one["gradients"][name], gradient, **tolerance, msg=name)


def test_a_loss_with_parameters_is_averaged_over_processes(folder: Path) -> None:
    probit = OrderedProbit()
    for rank in range(2):
        log_levels(probit, rank).div(2).backward()
    for rank in range(2):
        gradient = torch.load(folder / f"{rank}.pt", weights_only=True)["probit"]
        torch.testing.assert_close(gradient, probit.steps.grad)


def test_meta_keeps_buffers_and_takes_no_memory(folder: Path) -> None:
    lmm = build_on_meta(lambda: build(folder, "checkpoint", weights=False))
    assert all(p.is_meta for p in lmm.parameters())
    assert not lmm.answer_ids.is_meta
    assert len(blocks(lmm)) == SIZES.embedded.vision_layers + SIZES.embedded.text_layers


if __name__ == "__main__":
    in_process(Path(sys.argv[1]), int(sys.argv[2]))
