"""Every family against its own processor and its own forward, on a checkpoint saved and loaded again."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import Qwen2Config
from transformers.image_utils import PILImageResampling
from transformers.video_utils import VideoMetadata

from datamodules.errors import InputError
from datamodules.labels import LEVELS, preference
from vqa_lightning.families import FAMILIES, EmbeddedSizes, Family, load_family
from vqa_lightning.lmm import LMM
from vqa_lightning.lmm.prompt import ANSWER, QUESTION, SYSTEM
from vqa_lightning.scaling import map_scores
from vqa_lightning.scoring import Anchors

PLACES = [0, 1, 2, 30, 31, 32]
"""Of the frames at 30 a second: two segments of three, a second apart."""


def clip(height: int, width: int, seed: int = 0) -> Tensor:
    """(6, 3, H, W) bytes with edges and noise, which every interpolation treats differently."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (6, 3, -(-height // 8), -(-width // 8)), generator=generator)
    noise = torch.randint(-40, 41, (6, 3, height, width), generator=generator)
    coarse = blocks.repeat_interleave(8, -2).repeat_interleave(8, -1)[..., :height, :width]
    return (coarse + noise).clamp(0, 255).to(torch.uint8)


def own_logits(lmm: LMM, first: Tensor, second: Tensor) -> Tensor:
    """The family's own forward on what its own processor and chat template make of two clips (T, 3, H, W)."""
    processor = lmm.family.processor
    video = lmm.family.video
    said = [("system", SYSTEM), ("user", QUESTION.format(video=video))]
    text = processor.apply_chat_template(
        [{"role": role, "content": [{"type": "text", "text": words}]} for role, words in said],
        tokenize=False,
        add_generation_prompt=True,
    )
    inputs = processor(
        text=[text + (ANSWER if text[-1].isspace() else f" {ANSWER}")],
        videos=[first, second],
        do_sample_frames=False,
        video_metadata=[VideoMetadata(6, fps=30.0, frames_indices=list(PLACES)) for _ in range(2)],
        return_tensors="pt",
    )
    words = [lmm.family.tokenizer(f" {level}", add_special_tokens=False).input_ids[0] for level in LEVELS]
    return lmm.model(**inputs, logits_to_keep=1).logits[0, -1, words]


def prefers(logits: Tensor) -> Tensor:
    """Far from undecided, or a wrong anchor would hardly show."""
    return preference((20 * logits).softmax(-1))


class TestPixels:
    @pytest.mark.parametrize("size", [(50, 70), (90, 40), (20, 24)])
    def test_resize_is_that_of_the_familys_processor(self, lmm: LMM, size: tuple[int, int]) -> None:
        family = lmm.family
        frames = clip(*size)
        # Bicubic also where the checkpoint says Lanczos: on a GPU its processor does the same.
        inputs = family.video_processor(
            videos=[frames], do_sample_frames=False, resample=PILImageResampling.BICUBIC, return_tensors="pt"
        )
        theirs = inputs.get("pixel_values_videos", inputs.get("pixel_values"))
        shown = family.size_for(*size, len(frames))
        assert shown != size
        ours = family.normalise(family.resize(frames[None] / 255, shown))
        if "video_grid_thw" in inputs:
            ours = patches_as_qwen_orders_them(ours[0], inputs["video_grid_thw"][0].tolist())
        std = family.video_processor.image_std[0]
        # The processor rounds to bytes after each resize, SmolVLM's twice: within a byte's step either way.
        assert ours.shape == theirs.shape
        assert ((ours - theirs) * std).abs().max() <= 1.001 / 255

    def test_smolvlm_goes_by_way_of_its_longest_edge(self, folders: dict[str, Path]) -> None:
        family = load_family(str(folders["smolvlm"]))
        # As published: the edge of the processor's size is four times the tower's square.
        family.video_processor.size = {"longest_edge": 128}
        frames = clip(50, 70)
        theirs = family.video_processor(
            videos=[frames], do_sample_frames=False, resample=PILImageResampling.BICUBIC, return_tensors="pt"
        )["pixel_values"]
        shown = family.resize(frames[None] / 255, (32, 32))
        steps = ((family.normalise(shown) - theirs).abs() * family.video_processor.image_std[0] * 255).round()
        # Two rounded resizes: a byte's step apart, in one place of ten thousand two.
        assert steps.max() <= 2
        assert (steps == 2).float().mean() <= 1e-4
        direct = Family.resize(family, frames[None] / 255, (32, 32))
        assert (shown - direct).abs().max() > 3 / 255

    def test_a_token_covers_whole_patches(self, lmm: LMM) -> None:
        assert lmm.family.patch == 8
        assert all(side % lmm.family.patch == 0 for side in lmm.family.size_for(50, 70, 6))

    def test_frames_of_the_right_size_are_shown_as_they_are(self, lmm: LMM) -> None:
        frames = torch.rand(1, 2, 3, 32, 32)
        assert torch.equal(lmm.family.resize(frames, (32, 32)), frames)


def patches_as_qwen_orders_them(frames: Tensor, grid: list[int]) -> Tensor:
    """(T * H * W, C * 2 * 8 * 8): two frames, then blocks of two by two patches, then the patches."""
    time, height, width = grid
    rows = []
    for t in range(time):
        for y in range(0, height, 2):
            for x in range(0, width, 2):
                for dy, dx in [(0, 0), (0, 1), (1, 0), (1, 1)]:
                    top, left = 8 * (y + dy), 8 * (x + dx)
                    patch = frames[2 * t : 2 * t + 2, :, top : top + 8, left : left + 8]
                    rows.append(patch.transpose(0, 1).flatten())
    return torch.stack(rows)


class TestLogits:
    def test_level_logits_are_those_of_the_familys_own_forward(self, lmm: LMM) -> None:
        first, second = clip(32, 32), clip(32, 32, seed=1)
        tokens = lmm.encode(torch.stack([first, second]) / 255)
        logits, *_ = lmm.compare(tokens.take([0]), tokens.take([1]))
        expected = own_logits(lmm, first, second)
        # float32 sums in another order; logits differ by tenths from clip to clip
        assert torch.allclose(logits[0], expected, atol=1e-4)
        swapped, *_ = lmm.compare(tokens.take([1]), tokens.take([0]))
        assert not torch.allclose(swapped[0], expected, atol=1e-3)

    def test_clips_of_different_aspect(self, qwen3_vl: LMM) -> None:
        first, second = clip(32, 64), clip(80, 32, seed=1)
        tokens = qwen3_vl.encode([first / 255, second / 255])
        logits, *_ = qwen3_vl.compare(tokens.take([0]), tokens.take([1]))
        assert torch.allclose(logits[0], own_logits(qwen3_vl, first, second), atol=1e-4)

    def test_a_ragged_batch_answers_as_its_pairs_alone(self, qwen3_vl: LMM) -> None:
        sizes = [(32, 64), (80, 32), (48, 48), (32, 32)]
        clips = [clip(*size, seed=seed) / 255 for seed, size in enumerate(sizes)]
        tokens = qwen3_vl.encode(clips)
        logits, scores, _ = qwen3_vl.compare(tokens.take([0, 1]), tokens.take([2, 3]))
        for pair in range(2):
            alone = qwen3_vl.encode([clips[pair], clips[pair + 2]])
            expected, score, _ = qwen3_vl.compare(alone.take([0]), alone.take([1]))
            # The padding of the batch changes only the order of sums.
            assert torch.allclose(logits[pair], expected[0], atol=1e-5)
            assert torch.allclose(scores[pair], score[0], atol=1e-5)

    def test_a_mid_grey_clip_keeps_its_tokens(self, lmm: LMM) -> None:
        # Normalised, it is all zeros: SmolVLM's own model takes such frames for padding and drops them.
        grey = torch.full((1, 6, 3, 32, 32), 0.5)
        assert lmm.family.features(grey)[0].isfinite().all()
        assert lmm.encode(grey).lengths == lmm.encode(torch.rand(1, 6, 3, 32, 32)).lengths


class TestPrefix:
    @pytest.mark.parametrize("checkpointing", [False, True])
    def test_what_follows_a_prefix_is_judged_as_in_the_whole_prompt(
        self, lmm: LMM, checkpointing_lmm: LMM, checkpointing: bool
    ) -> None:
        model = (checkpointing_lmm if checkpointing else lmm).eval()
        clips = torch.stack([clip(32, 32, seed=seed) for seed in range(4)]) / 255
        with torch.no_grad():
            tokens = model.encode(clips)
            prefix, scores = model.begin(tokens.take([0, 1]))
            logits = model.follow(prefix.take([0, 0, 1]), tokens.take([2, 3, 2]))
            expected, alone, _ = model.compare(tokens.take([0, 0, 1]), tokens.take([2, 3, 2]))
        model.train()
        # The same sums in another order, on logits that differ by tenths.
        assert torch.allclose(logits, expected, atol=1e-4)
        assert torch.allclose(scores[[0, 0, 1]], alone, atol=1e-5)

    def test_a_prefix_of_another_aspect(self, qwen3_vl: LMM) -> None:
        tokens = qwen3_vl.encode([clip(32, 64) / 255, clip(80, 32, seed=1) / 255])
        prefix, _ = qwen3_vl.eval().begin(tokens.take([0]))
        expected, *_ = qwen3_vl.compare(tokens.take([0]), tokens.take([1]))
        assert torch.allclose(qwen3_vl.follow(prefix, tokens.take([1])), expected, atol=1e-4)
        qwen3_vl.train()

    def test_anchors_of_several_aspects(self, qwen3_vl: LMM) -> None:
        lmm = qwen3_vl.eval()
        anchors = Anchors(3)
        anchors.choose([clip(*size, seed=seed) for seed, size in enumerate([(32, 64), (80, 32), (64, 32)])])
        shown = clip(48, 48, seed=3) / 255
        values = anchors.scale_values(lmm, lmm.encode(shown[None]), prefers)
        tokens = lmm.encode([*(frames / 255 for frames in anchors.clips), shown])
        matrix = torch.full((2, 4, 4), 0.5)
        for place in range(3):
            logits, *_ = lmm.compare(tokens.take([place, 3]), tokens.take([3, place]))
            there, back = prefers(logits)
            matrix[:, 3, place] = torch.stack([there, 1 - back])
            matrix[:, place, 3] = 1 - matrix[:, 3, place]
        # float32 sums in another order, on preferences 20 times as steep as the model's own
        assert torch.allclose(values[0].double(), map_scores(matrix)[0][:, 3], atol=1e-3)
        lmm.train()


class TestSizes:
    def test_qwen_keeps_the_aspect_within_its_budget(self, qwen3_vl: LMM) -> None:
        size_for = qwen3_vl.family.size_for
        assert size_for(64, 48, 4) == (64, 48)  # 12288 of the 16384 pixels that the tiny checkpoint allows
        height, width = size_for(256, 192, 4)
        assert (height, width) == (64, 48)
        assert height % 16 == width % 16 == 0  # whole tokens of two by two patches
        assert size_for(64, 48, 1) == (64, 48)  # a lone frame is shown twice, as in its own patchify

    @pytest.mark.parametrize("name", ["smolvlm", "internvl"])
    def test_patches_that_cannot_be_joined_in_twos(self, name: str) -> None:
        with pytest.raises(InputError, match="an even number of patches a side"):
            FAMILIES[name].embedded(EmbeddedSizes(image_size=24, patch_size=8, hidden_size=32), ["better"])


def levels_of(lmm: LMM) -> Tensor:
    """Level logits of one pair in both orders."""
    levels = lmm(torch.stack([clip(32, 32), clip(32, 32, seed=1)]) / 255).levels
    assert levels is not None
    return levels


class TestLoading:
    def test_gradients_reach_every_part_but_the_unreached(self, lmm: LMM) -> None:
        trained = deepcopy(lmm).requires_grad_(True)
        levels_of(trained).sum().backward()
        family = trained.family
        unreached = {parameter for module in family.unreached for parameter in module.parameters()}
        for part in (family.tower, family.projector, family.language_model):
            without = {parameter for parameter in part.parameters() if parameter.grad is None}
            assert without <= unreached

    def test_recomputed_activations_give_the_same_gradients(self, lmm: LMM, checkpointing_lmm: LMM) -> None:
        trained = deepcopy(lmm).requires_grad_(True)
        for each in (trained, checkpointing_lmm):
            levels_of(each).sum().backward()
        for kept, recomputed in zip(trained.parameters(), checkpointing_lmm.parameters(), strict=True):
            assert (kept.grad is None) == (recomputed.grad is None)
            # The same operations in the same order.
            assert kept.grad is None or torch.allclose(kept.grad, recomputed.grad, rtol=1e-5, atol=1e-6)

    def test_a_checkpoint_is_loaded_in_training_mode(self, lmm: LMM) -> None:
        assert lmm.model.training  # transformers loads in eval mode

    def test_the_same_model_without_its_weights(self, folders: dict[str, Path], family_name: str) -> None:
        with torch.device("meta"):
            family = load_family(str(folders[family_name]), weights=False)
        assert all(parameter.is_meta for parameter in family.model.parameters())
        assert family.size_for(32, 32, 6) == (32, 32)

    def test_a_text_model_is_refused(self, tmp_path: Path) -> None:
        Qwen2Config(num_hidden_layers=1).save_pretrained(tmp_path)
        with pytest.raises(InputError, match=r"is a qwen2 model, which sees no pictures: name .*\.$"):
            load_family(str(tmp_path))

    def test_a_family_that_is_not_here_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text('{"model_type": "llava"}')
        with pytest.raises(
            InputError, match=r"is a llava model: name a checkpoint of llava_onevision, .*\.$"
        ):
            load_family(str(tmp_path))

    def test_a_config_of_an_unknown_type_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text('{"model_type": "nothing_known"}')
        with pytest.raises(InputError, match="cannot be loaded"):
            load_family(str(tmp_path))

    def test_a_folder_without_a_model_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="cannot be loaded"):
            load_family(str(tmp_path / "nothing"))
