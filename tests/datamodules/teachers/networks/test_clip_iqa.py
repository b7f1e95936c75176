from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from datamodules.errors import InputError
from datamodules.labels import Request
from datamodules.teachers.networks.clip_iqa import CLIPIQA
from datamodules.video import probe

DATA = Path(__file__).resolve().parents[4].parent / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared clips are not at {DATA}")


def write_clip(folder: Path, seed: int = 0) -> str:
    """Save a tiny random CLIP with a tokenizer of single letters and return its folder."""
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[])
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    special = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    torch.manual_seed(seed)
    CLIPModel(
        CLIPConfig(
            text_config={**layers, **special, "vocab_size": len(words), "max_position_embeddings": 32},
            vision_config={**layers, "image_size": 32, "patch_size": 8},
            projection_dim=16,
        )
    ).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_clip(tmp_path_factory.mktemp("clip"))


class TestCLIPIQA:
    def test_is_the_softmax_of_the_two_cosines(self, folder: str) -> None:
        clips = torch.rand(3, 2, 3, 40, 52, generator=torch.Generator().manual_seed(0))
        inputs = CLIPProcessor.from_pretrained(folder)(
            text=["Good photo.", "Bad photo."],
            images=list(clips.flatten(0, 1) * 255),
            return_tensors="pt",
            padding=True,
        )
        with torch.inference_mode():
            outputs = CLIPModel.from_pretrained(folder)(**inputs)
            scores = CLIPIQA(folder).score(clips)
        cosines = outputs.image_embeds @ outputs.text_embeds.T
        expected = (100 * cosines).softmax(dim=1)[:, 0].view(3, 2).mean(dim=1)
        assert torch.allclose(scores, expected, atol=1e-5)  # float32, cosines times 100

    def test_one_frame_scores_as_in_a_batch(self, folder: str) -> None:
        teacher = CLIPIQA(folder)
        clips = torch.rand(3, 1, 3, 40, 52, generator=torch.Generator().manual_seed(0))
        alone = torch.cat([teacher.score(clip[None]) for clip in clips])
        assert torch.allclose(alone, teacher.score(clips), atol=1e-5)  # another order of float32 sums

    @needs_data
    def test_a_corpus_row_gets_a_probability_and_its_spread(self, folder: str) -> None:
        (row,) = CLIPIQA(folder).annotate([Request(probe(DATA / "clips/nasa_13013.mp4"))])
        assert 0 < row.score < 1
        assert row.stderr > 0

    def test_other_weights_are_another_annotator(self, folder: str, tmp_path: Path) -> None:
        same = CLIPIQA(write_clip(tmp_path / "same"))
        other = CLIPIQA(write_clip(tmp_path / "other", seed=1))
        assert same.fingerprint == CLIPIQA(folder).fingerprint != other.fingerprint

    def test_two_can_stand_side_by_side_under_names_of_their_own(self, folder: str) -> None:
        assert (CLIPIQA(folder).name, CLIPIQA(folder, name="tiny").name) == ("clip-iqa", "tiny")

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_goes_where_the_trainer_says(self, folder: str) -> None:
        teacher = CLIPIQA(folder)
        clips = torch.rand(2, 1, 3, 40, 52, generator=torch.Generator().manual_seed(0))
        host, fingerprint = teacher.score(clips), teacher.fingerprint
        teacher.device = torch.device("cuda", 0)
        with torch.inference_mode():  # as in predict
            teacher.fit(0)
            scores = teacher.score(clips.cuda())
        assert scores.device == teacher.device
        assert torch.allclose(scores.cpu(), host, atol=1e-2)  # TF32, cosines times 100
        assert teacher.fingerprint == fingerprint

    @pytest.mark.skipif(find_spec("piq") is not None, reason="piq is installed")
    def test_the_papers_model_names_its_extra(self) -> None:
        with pytest.raises(InputError, match=r"install vqa-lightning\[clip-iqa\], or name a folder"):
            CLIPIQA()

    def test_a_folder_without_a_model_is_one_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"The CLIP '.*' cannot be loaded .*\.$"):
            CLIPIQA(str(tmp_path))
