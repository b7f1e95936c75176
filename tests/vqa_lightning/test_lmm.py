from pathlib import Path

import pytest
import torch
from transformers import SiglipVisionConfig, SiglipVisionModel

from datamodules.errors import InputError
from datamodules.levels import LEVELS
from vqa_lightning.embedded import build_video_processor
from vqa_lightning.lmm import LMM, PROMPT, LMMConfig, build_tokenizer

TINY = LMMConfig(image_size=32, hidden_size=32, vision_layers=1, text_layers=1)


@pytest.fixture(scope="module")
def lmm() -> LMM:
    torch.manual_seed(0)
    return LMM(TINY, frames=2).requires_grad_(False)


def clips(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


class TestCompare:
    def test_level_logits_are_those_of_the_words_at_the_answer_position(self, lmm: LMM) -> None:
        # The family's own forward: text, placeholders and pixels, all logits of the last place.
        tokenizer = build_tokenizer((*PROMPT, *LEVELS))
        pair = clips(2)
        tokens = lmm.encode(pair)
        placeholder = "<video>" * tokens.shape[1]
        prompt = f"{PROMPT[0]}{placeholder}{PROMPT[1]}{placeholder}{PROMPT[2]}"
        expected = lmm.model(
            input_ids=torch.tensor([tokenizer(prompt).input_ids]),
            pixel_values_videos=(pair - lmm.mean) / lmm.std,
            logits_to_keep=1,
        ).logits[0, -1, tokenizer.convert_tokens_to_ids(list(LEVELS))]
        logits, _ = lmm.compare(tokens[:1], tokens[1:])
        # float32 sums in another order
        assert torch.allclose(logits[0], expected, atol=1e-5)

    def test_the_first_clips_score_has_seen_nothing_of_the_second(self, lmm: LMM) -> None:
        tokens = lmm.encode(clips(3))
        _, beside_second = lmm.compare(tokens[:1], tokens[1:2])
        _, beside_third = lmm.compare(tokens[:1], tokens[2:])
        assert torch.allclose(beside_second, beside_third, atol=1e-6)
        assert torch.allclose(beside_second, lmm.score(tokens[:1]), atol=1e-6)

    def test_the_order_of_the_clips_matters_to_the_answer(self, lmm: LMM) -> None:
        tokens = lmm.encode(clips(2))
        forward, _ = lmm.compare(tokens[:1], tokens[1:])
        backward, _ = lmm.compare(tokens[1:], tokens[:1])
        assert not torch.allclose(forward, backward, atol=1e-4)


class TestPretrained:
    @pytest.fixture
    def saved(self, lmm: LMM, tmp_path: Path) -> Path:
        lmm.model.save_pretrained(tmp_path)
        build_tokenizer((*PROMPT, *LEVELS)).save_pretrained(tmp_path)
        build_video_processor(32).save_pretrained(tmp_path)
        return tmp_path

    def test_a_saved_checkpoint_answers_the_same(self, lmm: LMM, saved: Path) -> None:
        loaded = LMM(LMMConfig(pretrained=str(saved)), frames=2)
        assert loaded.model.training  # transformers loads in eval mode
        pair = clips(2)
        ours, theirs = (m.compare(m.encode(pair[:1]), m.encode(pair[1:]))[0] for m in (lmm, loaded))
        assert torch.allclose(ours, theirs, atol=1e-6)

    def test_clips_of_another_size_are_resized_to_the_tower(self, lmm: LMM) -> None:
        large = torch.rand(1, 2, 3, 50, 70)
        assert lmm.encode(large).shape == lmm.encode(clips(1)).shape

    def test_another_family_is_refused(self, tmp_path: Path) -> None:
        SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1
            )
        ).save_pretrained(tmp_path)
        with pytest.raises(InputError, match="siglip_vision_model"):
            LMM(LMMConfig(pretrained=str(tmp_path)), frames=2)

    def test_a_folder_without_a_model_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="cannot be loaded"):
            LMM(LMMConfig(pretrained=str(tmp_path / "nothing")), frames=2)


@pytest.mark.parametrize("sizes", [{"patch_size": 7}, {"hidden_size": 40}])
def test_sizes_that_do_not_fit(sizes: dict[str, int]) -> None:
    with pytest.raises(InputError, match="multiple"):
        LMMConfig(**sizes)
