import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from datamodules.errors import InputError
from datamodules.video import Sampling
from vqa_lightning.budget.flops import Step, StepShape, step_shape
from vqa_lightning.budget.memory import (
    GB,
    Budget,
    check_context,
    check_fits,
    estimate,
    training_hours,
)
from vqa_lightning.families import FAMILIES, EmbeddedSizes
from vqa_lightning.lmm import LMM, LMMConfig, TrainedParts
from vqa_lightning.lmm.sharding import build_on_meta
from vqa_lightning.lmm.trained_parts import hold, train_parts

SIDE = 64
PAIRS = 2


def build(
    family: str = "llava_onevision", layers: int = 2, checkpointing: bool = False, **trained: object
) -> LMM:
    sizes = EmbeddedSizes(family, SIDE, hidden_size=64, vision_layers=layers, text_layers=layers)
    config = LMMConfig(view="resize", checkpointing=checkpointing, embedded=sizes)
    lmm = LMM(config, Sampling(frames=4, window=SIDE))
    # A CPU keeps an adapter's dropout in another type than a GPU.
    train_parts(lmm, TrainedParts(rank=4, dropout=0.0, **trained))  # type: ignore[arg-type]
    hold(lmm, torch.bfloat16)
    return lmm


def shape(lmm: LMM, pairs: int = PAIRS) -> StepShape:
    return step_shape(lmm, Step(pairs, (SIDE, SIDE)))


def budget(lmm: LMM, **settings: object) -> Budget:
    return estimate(lmm, shape(lmm), **settings)  # type: ignore[arg-type]


def kept(lmm: LMM) -> int:
    """Bytes that autograd keeps for the backward pass, weights apart."""
    weights = {p.untyped_storage().data_ptr() for p in lmm.parameters()}
    found: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            found[place] = tensor  # held, so that no other tensor takes its place
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        lmm(torch.rand(2 * PAIRS, 4, 3, SIDE, SIDE))
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


class TestActivations:
    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("trained", [{"parts": "full"}, {"parts": "paper"}, {"parts": "lora"}])
    def test_a_layer_keeps_what_autograd_keeps(self, family: str, trained: dict[str, object]) -> None:
        few, many = (build(family, layers, **trained) for layers in (3, 5))
        counted = budget(many).activations - budget(few).activations
        # Copies that autocast makes of the same input twice, and rotary tables, are not told apart.
        assert counted == pytest.approx(kept(many) - kept(few), rel=0.1)

    def test_nothing_is_kept_where_no_gradient_passes(self) -> None:
        few, many = (budget(build(layers=layers, parts="head")) for layers in (1, 3))
        assert few.activations == many.activations

    def test_checkpointing_keeps_a_layers_input(self) -> None:
        few, many = (build(layers=layers, parts="full") for layers in (1, 3))
        step = shape(few)
        tokens = sum(step.sequences) + step.clips * step.pictures * step.patches
        # Two layers more, 64 numbers in float32 a token.
        expected = 2 * 4 * 64 * tokens
        held = [budget(lmm, checkpointing=True).activations for lmm in (few, many)]
        assert held[1] - held[0] == expected

    def test_checkpointing_is_read_from_the_model(self) -> None:
        assert not budget(build()).checkpointing
        assert budget(build(checkpointing=True)).checkpointing


class TestStates:
    def test_the_meta_device_gives_the_same_budget(self) -> None:
        assert budget(build_on_meta(lambda: build(parts="paper"))) == budget(build(parts="paper"))

    def test_adam_keeps_two_numbers_for_each_trained_one(self) -> None:
        lmm = build(parts="lora")
        trained = sum(p.numel() for p in lmm.parameters() if p.requires_grad)
        total = sum(p.numel() for p in lmm.parameters())
        found = budget(lmm)
        assert found.optimizer == 2 * found.gradients == 8 * trained
        # A norm that video features never pass stays in float32.
        assert found.weights == pytest.approx(4 * trained + 2 * (total - trained), rel=1e-3)

    def test_shards_divide_what_lasts_and_gather_what_computes(self) -> None:
        lmm = build(parts="full", layers=8)
        alone, shared = budget(lmm), budget(lmm, shards=4)
        for name in ("weights", "gradients", "optimizer"):
            assert getattr(shared, name) == getattr(alone, name) // 4
        assert shared.activations == alone.activations
        assert 0 < shared.copies < alone.copies

    def test_full_precision_needs_no_copies_and_twice_the_activations(self) -> None:
        lmm = build(parts="full")
        found = budget(lmm, precision="32-true")
        assert found.copies == 0
        # All but the norms' inputs, in float32 either way, is doubled.
        assert 1.3 < found.activations / budget(lmm).activations < 2


class TestChecks:
    def test_enough_memory_passes_in_silence(self) -> None:
        check_fits(budget(build()), 80 * GB)

    @pytest.mark.parametrize(
        ("changed", "remedy"),
        [
            ({"activations": 90 * GB}, "set model.lmm.checkpointing to true"),
            ({"activations": 90 * GB, "checkpointing": True}, r"lower data.batch_size \(4\)"),
            ({"pixels": 90 * GB, "pairs": 1}, "lower model.sampling.segments"),
            ({"optimizer": 90 * GB}, "set model.trained.parts to lora"),
            ({"weights": 90 * GB}, "--config fsdp.yaml"),
        ],
    )
    def test_too_small_a_gpu_is_told_with_the_setting_that_helps_most(
        self, changed: dict[str, int], remedy: str
    ) -> None:
        parts = dict.fromkeys(
            ("weights", "gradients", "optimizer", "copies", "activations", "logits", "pixels", "reserve"), GB
        )
        settings = {"checkpointing": False, "pairs": 4, "adapters": False}
        needed = Budget(**{**parts, **settings, **changed})  # type: ignore[arg-type]
        with pytest.raises(InputError, match=f"97.0 GB.*90.0 for .* there are 80.0: .*{remedy}"):
            check_fits(needed, 80 * GB)

    def test_a_prompt_longer_than_the_context_is_told_with_its_length(self) -> None:
        lmm = build()
        check_context(lmm, shape(lmm))
        lmm.model.config.get_text_config().max_position_embeddings = 100
        longest = max(shape(lmm).sequences)
        with pytest.raises(InputError, match=f"4 pictures a clip has {longest} tokens .* holds 100: lower"):
            check_context(lmm, shape(lmm))


def test_hours_are_operations_over_what_the_gpu_does() -> None:
    # 1e15 operations a pair at half of 1e15 a second: two seconds a pair.
    assert training_hours(4e15, 4, of_pairs=1800, utilisation=0.5, peak=1e15) == pytest.approx(1.0)
