from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from datamodules.video import Sampling
from vqa_lightning.budget.flops import Step, StepFlops, step_flops, step_shape
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMM, LMMConfig, TrainedParts
from vqa_lightning.lmm.trained_parts import train_parts

PAIRS = 2
SIDE = 64
STEP = Step(PAIRS, (SIDE, SIDE))


def model(parts: str = "full", family: str = "llava_onevision", **settings: object) -> LMM:
    torch.manual_seed(0)
    sizes = EmbeddedSizes(family, SIDE, hidden_size=64, vision_layers=4, text_layers=4)
    config = LMMConfig(embedded=sizes, **settings)  # type: ignore[arg-type]
    lmm = LMM(config, Sampling(frames=2, window=SIDE))
    train_parts(lmm, TrainedParts(parts=parts, rank=4))  # type: ignore[arg-type]
    return lmm


def counted(lmm: LMM, *, backward: bool, pairs: int = PAIRS) -> tuple[int, int]:
    """What torch's own counter sees of a step: in matrices and convolutions, and in attention."""
    clips = torch.rand(2 * pairs, 2, 3, SIDE, SIDE)
    # Fused kernels of the CPU are not counted by every release of torch; their plain products always are.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        judged = lmm(clips)
        if backward:
            (judged.levels.sum() + judged.scores.sum()).backward()
    by_operator = counter.get_flop_counts()["Global"]
    attention = sum(count for name, count in by_operator.items() if "bmm" in str(name))
    return sum(by_operator.values()) - attention, attention


def matrices(flops: StepFlops) -> int:
    return flops.total - flops.attention


@pytest.mark.parametrize("family", ["llava_onevision", "qwen3_vl", "smolvlm", "internvl"])
def test_forward_is_what_torch_counts(family: str) -> None:
    lmm = model(family=family).requires_grad_(False)
    flops = step_flops(lmm, step_shape(lmm, STEP))
    seen, _ = counted(lmm, backward=False)
    # Class tokens (one beside 64 patches) and rotary tables are not counted.
    assert matrices(flops) == pytest.approx(seen, rel=0.02)


@pytest.mark.parametrize("parts", ["full", "paper", "lora", "head"])
def test_forward_and_backward_are_what_torch_counts(parts: str) -> None:
    lmm = model(parts)
    flops = step_flops(lmm, step_shape(lmm, STEP))
    seen, _ = counted(lmm, backward=True)
    # The first decoder layer's queries, keys and values pass no gradient on where nothing before is trained:
    # 3 D^2 of 4 x 13 D^2 weights, 2 of their 4 operations, which the rule of 4 N counts.
    assert matrices(flops) == pytest.approx(seen, rel=0.03)
    assert matrices(flops) >= 0.999 * seen


def test_attention_is_what_torch_counts_less_what_is_masked() -> None:
    lmm = model("full")
    shape = step_shape(lmm, STEP)
    _, seen = counted(lmm, backward=True)
    tower = 4 * shape.clips * shape.pictures * shape.patches**2 * 64 * 4
    decoder = sum(4 * length**2 for length in shape.sequences) * 64 * 4
    # torch counts the whole square of causal attention, of which one half is masked.
    assert (tower + decoder) * 3 == pytest.approx(seen)
    assert step_flops(lmm, shape).attention == 3 * tower + 3 * decoder // 2


def test_what_is_trained_decides_the_cost_of_a_token() -> None:
    by_parts = {}
    for parts in ("head", "lora", "paper", "full"):
        lmm = model(parts)
        by_parts[parts] = step_flops(lmm, step_shape(lmm, STEP))
    head, lora, paper, full = by_parts.values()
    assert (paper.language_model, full.language_model) == (2 * head.language_model, 3 * head.language_model)
    assert head.tower == lora.tower
    assert lora.tower < paper.tower == full.tower
    assert paper.language_model < lora.language_model < full.language_model


def test_orders_and_judgements_decide_what_is_asked() -> None:
    lmm = model("full")
    both = step_shape(lmm, STEP)
    one = step_shape(lmm, replace(STEP, both_orders=False))
    words = step_shape(lmm, replace(STEP, judgements=["pairwise"], both_orders=False))
    scores = step_shape(lmm, replace(STEP, judgements=["pointwise"]))
    assert [len(shape.sequences) for shape in (both, one, words, scores)] == [4, 4, 2, 4]
    assert both.sequences[0] == words.sequences[0] > scores.sequences[0] == one.sequences[-1]
    tokens = lmm.encode(torch.rand(1, 2, 3, SIDE, SIDE))
    opening = lmm.prompt_ids((SIDE, SIDE))[0]
    assert scores.sequences[0] == len(opening) + tokens.lengths[0]


def test_the_entropy_of_all_positions_costs_the_vocabulary() -> None:
    lmm = model("full")
    shape = step_shape(lmm, STEP)
    everywhere = step_shape(lmm, replace(STEP, all_positions=True))
    extra = step_flops(lmm, everywhere).total - step_flops(lmm, shape).total
    assert extra == 6 * sum(shape.sequences) * lmm.family.head.weight.numel()


@pytest.mark.parametrize("trained", [False, True])
def test_the_motion_path_is_counted(trained: bool) -> None:
    lmm = model("paper", motion="r2plus1d_18", motion_trained=trained)
    flops = step_flops(lmm, step_shape(lmm, replace(STEP, pairs=1)))
    seen, _ = counted(lmm, backward=True, pairs=1)
    # As above; the backbone, most of it, is counted as it runs.
    assert matrices(flops) == pytest.approx(seen, rel=0.01)


@pytest.mark.parametrize("pictures", [True, False])
def test_the_quality_tower_is_counted(pictures: bool) -> None:
    lmm = model("full", quality_tower="efficientnet_lite0", pictures=pictures)
    flops = step_flops(lmm, step_shape(lmm, STEP))
    seen, _ = counted(lmm, backward=True)
    # As above; without pictures nothing is spent on the family's own tower.
    assert matrices(flops) == pytest.approx(seen, rel=0.03)
    assert (flops.tower == flops.projector == 0) is not pictures


def test_the_meta_device_counts_the_same() -> None:
    lmm = model("lora")
    here = step_flops(lmm, step_shape(lmm, STEP))
    lmm.to("meta")
    assert step_flops(lmm, step_shape(lmm, STEP)) == here
