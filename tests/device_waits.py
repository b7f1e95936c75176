"""A step on an accelerator never makes the host wait for it: whatever would, fails here.

Where there is no accelerator, one is pretended. Its tensors lie in the host's memory and their operators run
there, so that results can be compared; an operator for which a host would wait is refused.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

import datamodules.batches.device
from datamodules.batches import PairBatch, PairDataset
from datamodules.batches.clip_cache import ClipCache
from datamodules.batches.device import distort
from datamodules.batches.pair_dataset import PairCollate
from datamodules.corpus import build_corpus, videos
from datamodules.devices import for_device
from datamodules.distortions import DISTORTIONS, generator_for
from datamodules.fidelity import filters, vmaf_model
from datamodules.fidelity.vmaf import vmaf
from datamodules.labels import Consensus, Labelling
from datamodules.pairs.drawing import shuffled
from datamodules.pairs.scored import teacher_pairs
from datamodules.pairs.synthetic import synthetic_pairs
from datamodules.simulators import bases
from datamodules.video import Sampling
from datamodules.video.views import VIEWS, View, view
from datamodules.video_data import VideoDataModule
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMMConfig
from vqa_lightning.losses import (
    BradleyTerry,
    ConfidenceCrossEntropy,
    Fidelity,
    Losses,
    OrderedProbit,
    OrdinalThurstone,
    PointwiseLoss,
)
from vqa_lightning.training import RankingModule
from vqa_lightning.training.finite_steps import drop_unless_finite

DEVICE = "pretended"
READ = ("_local_scalar_dense", "_unique2", "bincount", "equal", "masked_select", "nonzero", "unique_dim")
"""Operators whose values the host reads, for their result or its shape."""
COPY = ("_to_copy", "copy_")
INDEX = ("index", "index_put", "index_put_", "_index_put_impl_")


class WaitError(RuntimeError):
    """The host would wait for the device, or the device is given what it may lack."""


class Pretended(Tensor):
    """A tensor that says that it lies on the device."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> "Pretended":
        if held.dtype == torch.float64:
            raise WaitError("float64 on the device")
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(DEVICE, 0),
        )
        return cast(Pretended, made)

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Pretended({tuple(self.shape)})"

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        return carried_out(operator, args, kwargs or {})


class NoWaits(TorchDispatchMode):
    """What is made on the device within is pretended to be there."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        return carried_out(operator, args, kwargs or {})


class PretendedGenerator(torch.Generator):
    """The host's generator, which says that it is on the device."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device(DEVICE, 0)


def carried_out(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operator in the host's memory, unless a host would wait."""
    given, target = pytree.tree_leaves((args, kwargs)), kwargs.get("device")
    tensors = [one for one in given if isinstance(one, Tensor)]
    there = [one for one in tensors if isinstance(one, Pretended)]
    if not there and (target is None or torch.device(target).type != DEVICE):
        return operator(*args, **kwargs)
    name = operator.overloadpacket.__name__
    onto = isinstance(args[0], Pretended) if target is None else torch.device(target).type == DEVICE
    if name in READ or (name == "repeat_interleave" and "Tensor" in str(operator)):
        raise WaitError(f"{operator} is read by the host")
    if name in INDEX and any(one is not None and one.dtype == torch.bool for one in args[1]):
        raise WaitError(f"{operator} by a mask has a shape that the host reads")
    if name in COPY:
        blocking = not (kwargs.get("non_blocking") or args[2:3] == (True,))
        if not onto or (blocking and len(there) < len(tensors)):
            raise WaitError(f"{operator} {'onto' if onto else 'from'} the device is waited for")
    elif there and any(one.ndim for one in tensors if not isinstance(one, Pretended)):
        raise WaitError(f"{operator} of tensors here and there: {[tuple(one.shape) for one in tensors]}")

    def here(one: Any) -> Any:
        if isinstance(one, torch.device) and one.type == DEVICE:
            return torch.device("cpu")
        return one.held if isinstance(one, Pretended) else one

    made = operator(*pytree.tree_map(here, args), **pytree.tree_map(here, kwargs))
    made = pytree.tree_map(lambda one: Pretended(one) if isinstance(one, Tensor) else one, made)
    return return_and_correct_aliasing(operator, args, kwargs, made)


class Backend(backend_registration._DummyBackendModule):
    """What torch asks of a device's module; nobody else is to find the device."""

    def is_available(self) -> bool:
        return False

    def device_count(self) -> int:
        return 0

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


class Hook(backend_registration._DummyPrivateUse1Hook):
    """As `Backend`."""

    def is_available(self) -> bool:
        return False


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    backend_registration._setup_privateuseone_for_python_backend(DEVICE, Backend(), Hook())


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """The pretended device, for which nobody may wait."""

    def generator(key: tuple[Any, ...], where: torch.device) -> torch.Generator:
        own = generator_for(key, torch.device("cpu"))
        return PretendedGenerator().set_state(own.get_state()) if where.type == DEVICE else own

    monkeypatch.setattr(datamodules.batches.device, "generator_for", generator)
    for name in ("log", "log_dict"):  # there is no trainer
        monkeypatch.setattr(RankingModule, name, lambda *_, **__: None)
    with NoWaits():
        yield torch.device(DEVICE, 0)


def moved(module: nn.Module, device: torch.device) -> None:
    """Lay parameters and buffers on the pretended device, which `Module.to` cannot: it keeps the objects."""
    for part in module.modules():
        for name, own in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(for_device(own.detach(), device), own.requires_grad))
        for name, own in list(part.named_buffers(recurse=False)):
            setattr(part, name, for_device(own, device))


class TestPretendedDevice:
    WAITING: Mapping[str, Callable[[Tensor], object]] = {
        "item": lambda x: x.sum().item(),
        "float": lambda x: float(x[0]),
        "bool": lambda x: bool((x > 0).all()),
        "tolist": lambda x: x.tolist(),
        "numpy": lambda x: x.numpy(),
        "cpu": lambda x: x.cpu(),
        "nonzero": lambda x: x.nonzero(),
        "mask": lambda x: x[x > 0],
        "values at a mask": lambda x: x.index_put((x > 0,), x),
        "unique": lambda x: x.unique(),
        "equal": lambda x: torch.equal(x, x),
        "list of places": lambda x: x[[0, 1]],
        "places on the host": lambda x: x[torch.tensor([0, 1])],
        "float64": lambda x: x.double(),
        "numbers": lambda x: torch.tensor([1.0, 2.0], device=x.device),
        "blocking": lambda x: torch.zeros(2).to(x.device),
    }

    @pytest.mark.parametrize("name", WAITING)
    def test_refuses(self, name: str, device: torch.device) -> None:
        values = for_device(torch.arange(3.0), device)
        with pytest.raises(RuntimeError, match=r"host|device|here and there|subclass|'pretended' backend"):
            self.WAITING[name](values)

    def test_computes(self, device: torch.device) -> None:
        values = for_device(torch.arange(3.0), device).requires_grad_()
        last = for_device(torch.tensor([2]), device)
        torch.where(values > 1, values.square(), 0).index_select(0, last).sum().backward()
        assert values.grad is not None
        assert values.grad.device.type == DEVICE
        assert cast(Pretended, values.grad).held.tolist() == [0, 0, 4]


SAMPLING = Sampling(segments=2, frames=2, window=32)


@pytest.fixture(scope="module")
def batch(mixed_corpus: Path) -> PairBatch:
    """Every simulator on both sides and under others, and pairs of teachers between."""
    known = {
        video.video_id: video
        for video in videos(build_corpus(mixed_corpus, cache=mixed_corpus / "cache", progress=False))
    }
    ids, generator = tuple(known), np.random.default_rng(0)
    ladder = {name: len(one.levels) for name, one in DISTORTIONS.items()}
    scores = Consensus(ids, np.arange(len(ids), dtype=float), np.ones(len(ids)))
    drawn = [
        synthetic_pairs(generator, ids, 42, ladder, 8, bases=bases(DISTORTIONS), composed=0.5),
        teacher_pairs(generator, scores, 6, 8, Labelling()),
    ]
    dataset = PairDataset(shuffled(drawn, generator), known, SAMPLING, DISTORTIONS, ClipCache(16))
    found = PairCollate(0)([dataset[row] for row in range(len(dataset))])
    assert set(range(len(DISTORTIONS))) <= set(found.simulators.flatten().tolist())
    return found


def crossed(batch: PairBatch, device: torch.device) -> PairBatch:
    made = VideoDataModule.transfer_batch_to_device(VideoDataModule("."), batch, device, 0)
    assert isinstance(made, PairBatch)
    return made


SIZES = EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1)


def ranking(**settings: Any) -> RankingModule:
    lmm = LMMConfig(**{"embedded": SIZES, **settings.pop("lmm", {})})
    module = RankingModule(lmm=lmm, sampling=SAMPLING, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module.configure_model()
    return module


def stepped(module: RankingModule, batch: PairBatch) -> Tensor:
    """The loss of one whole step, from bytes to the optimiser."""
    torch.manual_seed(0)  # of the dropout
    pairs = distort(batch, DISTORTIONS)
    loss = module.training_step(pairs)["loss"]
    loss.backward()
    module.schedule.steps = 10
    optimizer = module.configure_optimizers()["optimizer"]
    module.dropped.count(drop_unless_finite(optimizer))
    optimizer.step()
    return loss.detach()


class TestStep:
    @pytest.mark.parametrize("name", DISTORTIONS)
    def test_a_simulator_gives_the_same_on_the_device(self, name: str, device: torch.device) -> None:
        one = DISTORTIONS[name]
        level = list(range(len(one.levels) + 1))
        clips = torch.rand(len(level), 4, 3, 36, 44, generator=torch.Generator().manual_seed(0))
        times = (torch.arange(4.0) / 25).expand(len(level), -1)
        expected = one(clips, level, times=times, generator=torch.Generator().manual_seed(1))
        generator = PretendedGenerator()
        generator.manual_seed(1)
        found = one(for_device(clips, device), level, times=for_device(times, device), generator=generator)
        assert torch.equal(cast(Pretended, found).held, expected)

    def test_the_pass_gives_the_same_on_the_device(self, batch: PairBatch, device: torch.device) -> None:
        expected, found = distort(batch, DISTORTIONS), distort(crossed(batch, device), DISTORTIONS)
        assert torch.equal(found.clips.held, expected.clips)  # type: ignore[union-attr]
        assert torch.equal(cast(Pretended, found.levels).held, expected.levels)

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"lmm": {"quality_tower": "efficientnet_lite0", "motion": "differences"}},
            {"lmm": {"quality_tower": "efficientnet_lite0", "pictures": False}, "both_orders": False},
            {"loss": Losses(pairwise=lambda: ConfidenceCrossEntropy(entropy="all"), pointwise=BradleyTerry)},
            {"lmm": {"embedded": replace(SIZES, family="internvl")}},
            *(
                pytest.param(
                    {"lmm": {"embedded": replace(SIZES, family=family)}},
                    marks=pytest.mark.xfail(strict=True, reason=f"transformers' tower waits: {how}"),
                )
                for family, how in (
                    ("qwen3_vl", "it reads the grid of every picture"),
                    ("smolvlm", "it makes a mask on the host and asks whether all of it is set"),
                )
            ),
        ],
        ids=["defaults", "towers", "frozen", "losses", "internvl", "qwen3_vl", "smolvlm"],
    )
    def test_a_step_gives_the_same_on_the_device(
        self, settings: dict[str, Any], batch: PairBatch, device: torch.device
    ) -> None:
        module = ranking(**settings)
        expected = stepped(ranking(**settings), batch)
        moved(module, device)
        found = stepped(module, crossed(batch, device))
        assert torch.allclose(cast(Pretended, found).held, expected, rtol=1e-5)

    @pytest.mark.parametrize("loss", [OrderedProbit, OrdinalThurstone, BradleyTerry, Fidelity])
    def test_a_loss(self, loss: type[PointwiseLoss], batch: PairBatch, device: torch.device) -> None:
        difference = torch.linspace(-2, 2, len(batch.row))
        expected = loss()(difference, batch)
        cost = loss()
        moved(cost, device)
        found = cost(for_device(difference, device), crossed(batch, device))
        found.sum().backward()
        assert torch.equal(cast(Pretended, found).held, expected)

    @pytest.mark.parametrize("name", VIEWS)
    def test_a_view(self, name: View, device: torch.device) -> None:
        clips = torch.rand(2, 4, 3, 90, 160)
        lmm = ranking().lmm
        expected, found = (
            view(some, name, (64, 64), patch=8, resize=lmm.family.resize)
            for some in (clips, for_device(clips, device))
        )
        assert torch.equal(cast(Pretended, found).held, expected)

    @pytest.mark.parametrize("neg", [False, True])
    def test_vmaf(self, neg: bool, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(vmaf_model, "_model", vmaf_model._model.__wrapped__)
        monkeypatch.setattr(filters, "blocks", filters.blocks.__wrapped__)
        sources = torch.rand(2, 3, 3, 64, 72)
        clips = (sources * 0.8).clamp(max=0.7)
        expected, found = (
            vmaf.__wrapped__(*some, neg=neg)  # type: ignore[attr-defined]  # not in inference mode
            for some in ((clips, sources), (for_device(clips, device), for_device(sources, device)))
        )
        assert torch.equal(cast(Pretended, found).held, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_on_a_card_waits_for_nothing(batch: PairBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """What CUDA itself calls a wait, of the same step; the first step may wait, for it fills caches."""
    for name in ("log", "log_dict"):
        monkeypatch.setattr(RankingModule, name, lambda *_, **__: None)
    card = torch.device("cuda", 0)
    module = ranking(lmm={"quality_tower": "efficientnet_lite0", "motion": "differences"}).to(card)
    pinned = batch._replace(clips=batch.clips.pin_memory())  # type: ignore[union-attr]
    stepped(module, crossed(pinned, card))
    torch.cuda.set_sync_debug_mode("error")
    try:
        stepped(module, crossed(pinned, card))
        with pytest.raises(RuntimeError, match="synchroniz"):
            torch.zeros(1, device=card).item()
    finally:
        torch.cuda.set_sync_debug_mode("default")
