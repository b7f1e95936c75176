import re

import pytest
import torch
from peft.tuners.lora import LoraLayer

from datamodules.errors import InputError
from datamodules.video import Sampling
from vqa_lightning.families import FAMILIES, EmbeddedSizes
from vqa_lightning.lmm import LMM, LMMConfig, TrainedParts
from vqa_lightning.lmm.trained_parts import Parts, hold, train_parts
from vqa_lightning.training import RankingModule
from vqa_lightning.training.optimizers import MuonAdamW
from vqa_lightning.training.parameter_groups import parameter_groups, scale_rates

SAMPLING = Sampling(frames=2, window=32)
HEADS = ("score_head.", "motion.projector.")
PROJECTOR = "model.model.multi_modal_projector."
TOWER = "model.model.vision_tower."
DECODER = "model.model.language_model."


def config(family: str = "llava_onevision", **settings: object) -> LMMConfig:
    return LMMConfig(
        embedded=EmbeddedSizes(family, 32, hidden_size=32, vision_layers=2, text_layers=2),
        motion="differences",
        **settings,  # type: ignore[arg-type]
    )


def build(trained: TrainedParts, **settings: object) -> LMM:
    torch.manual_seed(0)
    lmm = LMM(config(**settings), SAMPLING)
    train_parts(lmm, trained)
    return lmm.train()


def clips(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def judge(lmm: LMM) -> torch.Tensor:
    judged = lmm(clips())
    assert judged.levels is not None
    assert judged.scores is not None
    return torch.cat([judged.levels.flatten(), judged.scores.flatten()])


def changed_in_a_step(lmm: LMM) -> set[str]:
    """Names of the parameters that one step of plain gradient descent changes by a bit or more."""
    before = {name: p.detach().clone() for name, p in lmm.named_parameters()}
    answers = judge(lmm)
    target = torch.randn(answers.shape, generator=torch.Generator().manual_seed(1))
    (answers * target).sum().backward()  # type: ignore[no-untyped-call]
    # Signs, since the smallest gradients of a random model would be lost in the rounding of a step.
    with torch.no_grad():
        for p in lmm.parameters():
            if p.grad is not None:
                p -= 1e-3 * p.grad.sign()
    return {name for name, p in lmm.named_parameters() if not torch.equal(p, before[name])}


def without_adapters(names: set[str]) -> set[str]:
    return {name for name in names if "lora_" not in name}


class TestTrainParts:
    @pytest.mark.parametrize(
        ("parts", "prefixes"),
        [("paper", (TOWER, PROJECTOR, *HEADS)), ("head", HEADS), ("full", ("",))],
    )
    def test_a_step_changes_exactly_the_trained_parts(self, parts: Parts, prefixes: tuple[str, ...]) -> None:
        lmm = build(TrainedParts(parts=parts))
        trained = {name for name, p in lmm.named_parameters() if p.requires_grad}
        expected = {
            name
            for name, _ in lmm.named_parameters()
            if name.startswith(prefixes) and not name.startswith(f"{TOWER}post_layernorm.")
        }
        assert trained == expected
        changed = changed_in_a_step(lmm)
        assert changed <= trained
        assert {name for name in trained - changed if not name.endswith("image_newline")} == set()

    @pytest.mark.parametrize("checkpointing", [False, True])
    @pytest.mark.parametrize("tower", [False, True])
    def test_a_step_changes_every_adapter_and_the_heads(self, tower: bool, checkpointing: bool) -> None:
        lmm = build(TrainedParts(parts="lora", rank=4, tower=tower), checkpointing=checkpointing)
        changed = changed_in_a_step(lmm)
        assert all(name.startswith(HEADS) for name in without_adapters(changed))
        assert without_adapters(changed) == {n for n, _ in lmm.named_parameters() if n.startswith(HEADS)}
        # lora_A learns nothing in the first step, for lora_B starts at zero.
        second = {name for name, _ in lmm.named_parameters() if "lora_B" in name}
        assert second == {name for name in changed if "lora_" in name}
        decoder = {name for name in second if name.startswith(DECODER)}
        assert len(decoder) == 2 * 7  # q, k, v, o, gate, up and down of either layer
        assert len(second - decoder) == (2 * 6 if tower else 0)  # q, k, v, out, fc1 and fc2

    @pytest.mark.parametrize("family", FAMILIES)
    def test_default_targets_suit_every_family(self, family: str) -> None:
        lmm = build(TrainedParts(parts="lora", tower=True), family=family)
        adapted = [layer for layer in lmm.model.modules() if isinstance(layer, LoraLayer)]
        assert not set(adapted) & set(lmm.family.projector.modules())
        judge(lmm).sum().backward()  # type: ignore[no-untyped-call]
        second = {name: p for name, p in lmm.named_parameters() if "lora_B" in name}
        assert len(second) == len(adapted)
        assert all(p.grad is not None and bool(p.grad.any()) for p in second.values())

    def test_adapters_change_nothing_before_they_have_learnt(self) -> None:
        plain, adapted = build(TrainedParts(parts="head")), build(TrainedParts(parts="lora"))
        with torch.no_grad():
            assert torch.equal(judge(plain), judge(adapted.eval()))

    def test_targets_choose_by_the_whole_name(self) -> None:
        lmm = build(TrainedParts(parts="lora", targets=r".*language_model.*\.[qv]_proj"))
        adapted = [name for name, layer in lmm.model.named_modules() if isinstance(layer, LoraLayer)]
        assert len(adapted) == 4
        assert all(re.search(r"\.[qv]_proj$", name) for name in adapted)

    @pytest.mark.parametrize("targets", ["q_proj", r".*\.layers", r".*layernorm", "lm_head"])
    def test_targets_without_a_linear_layer_are_told_what_there_is(self, targets: str) -> None:
        with pytest.raises(InputError, match=r"layers\\\.\\d\+\\\.self_attn\\\.q_proj") as caught:
            build(TrainedParts(parts="lora", targets=targets))
        assert repr(targets) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_dropout_is_active_in_training_only(self) -> None:
        lmm = build(TrainedParts(parts="lora", dropout=0.5))
        with torch.no_grad():
            for name, p in lmm.named_parameters():
                if "lora_B" in name:
                    p.fill_(0.1)
            assert not torch.equal(judge(lmm), judge(lmm))
            lmm.eval()
            assert torch.equal(judge(lmm), judge(lmm))

    def test_what_is_frozen_already_stays_frozen(self) -> None:
        lmm = LMM(config(), SAMPLING)
        assert lmm.motion is not None
        lmm.motion.requires_grad_(False)
        train_parts(lmm, TrainedParts(parts="full"))
        assert not any(p.requires_grad for p in lmm.motion.parameters())

    @pytest.mark.parametrize("parts", ["lora", "paper"])
    def test_held_in_bfloat16_only_what_is_frozen_loses_digits(self, parts: Parts) -> None:
        lmm = build(TrainedParts(parts=parts))
        hold(lmm, frozen=torch.bfloat16)
        assert {p.dtype for p in lmm.parameters() if p.requires_grad} == {torch.float32}
        frozen = {p.dtype for p in lmm.parameters() if not p.requires_grad and p.ndim > 1}
        assert frozen == {torch.bfloat16}
        with torch.autocast("cpu", torch.bfloat16):
            changed = changed_in_a_step(lmm)
        assert any("lora_B" in name for name in changed) == (parts == "lora")

    def test_adapters_of_a_bfloat16_model_are_float32(self) -> None:
        lmm = LMM(config(), SAMPLING).bfloat16()
        train_parts(lmm, TrainedParts(parts="lora"))
        assert {p.dtype for name, p in lmm.named_parameters() if "lora_" in name} == {torch.float32}


class TestSettings:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"parts": "qlora"},
            {"rank": 0},
            {"alpha": 0},
            {"dropout": 1.0},
            {"tower_lr": 0.0},
            {"targets": "("},
            {"targets": ".*q_proj", "tower": True},
        ],
    )
    def test_a_wrong_value_is_one_sentence(self, wrong: dict[str, object]) -> None:
        with pytest.raises(InputError, match=r"model\.trained\.") as caught:
            TrainedParts(**wrong)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


class TestParameterGroups:
    @pytest.fixture
    def module(self) -> RankingModule:
        module = RankingModule(lmm=config(), sampling=SAMPLING, trained=TrainedParts("paper", tower_lr=0.2))
        module.configure_model()
        return module

    @pytest.mark.parametrize(("kind", "rate"), [(torch.optim.AdamW, 1e-3), (MuonAdamW, 2e-3)])
    def test_the_tower_learns_at_its_own_rate(
        self, module: RankingModule, kind: type[torch.optim.Optimizer], rate: float
    ) -> None:
        optimizer = kind(parameter_groups(module, module.trained))
        scale_rates(optimizer)
        rates = {name: group["lr"] for group in optimizer.param_groups for name in group["param_names"]}
        assert set(rates) == {name for name, p in module.named_parameters() if p.requires_grad}
        assert rates[f"lmm.{PROJECTOR}linear_1.weight"] == rate
        assert rates[f"lmm.{TOWER}encoder.layers.0.mlp.fc1.weight"] == pytest.approx(0.2 * rate)
        assert rates["lmm.score_head.weight"] == 1e-3  # of AdamW in both

    def test_muon_is_not_needed(self) -> None:
        module = RankingModule(lmm=config(), sampling=SAMPLING, trained=TrainedParts("head"))
        module.configure_model()
        module.lmm.motion = None
        optimizer = MuonAdamW(parameter_groups(module, module.trained))
        assert [group["lr"] for group in optimizer.param_groups] == [1e-3]
