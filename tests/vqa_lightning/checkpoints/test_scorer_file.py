"""A scorer as two files: read wherever a checkpoint is read, and the same to the bit."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from datamodules.errors import InputError
from vqa_lightning import Scorer
from vqa_lightning.annotators.checkpoint_teacher import Checkpoint
from vqa_lightning.checkpoints.resumable import read_checkpoint
from vqa_lightning.checkpoints.scorer_file import SHIPPED, write_scorer
from vqa_lightning.commands.export import export_model


@pytest.fixture
def scorer(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    write_scorer(read_checkpoint(tiny_checkpoint), tmp_path / "given" / "tiny.safetensors")
    return tmp_path / "given" / "tiny.safetensors"


class TestScorerFile:
    def test_scores_as_its_checkpoint_does(
        self, scorer: Path, tiny_checkpoint: Path, mixed_corpus: Path
    ) -> None:
        files = sorted(mixed_corpus.glob("*.mp4"))[:2]
        one, other = Scorer(tiny_checkpoint, "cpu"), Scorer(scorer, "cpu")
        assert one.model == other.model
        assert one.score(files) == other.score(files)
        assert Checkpoint(str(scorer)).fingerprint == Checkpoint(str(tiny_checkpoint)).fingerprint

    def test_keeps_anchors(
        self, save_checkpoint: Callable[..., Path], mixed_corpus: Path, tmp_path: Path
    ) -> None:
        judge = save_checkpoint(tmp_path / "pairs.ckpt", "score_by=pairwise")
        write_scorer(read_checkpoint(judge), tmp_path / "pairs.safetensors")
        file = min(mixed_corpus.glob("*.mp4"))
        assert Scorer(tmp_path / "pairs.safetensors", "cpu").score(file) == Scorer(judge, "cpu").score(file)

    def test_holds_nothing_of_the_run(self, scorer: Path) -> None:
        settings = json.loads(scorer.with_suffix(".json").read_text())
        assert not {"optimizer_states", "callbacks", "generators", "loops"} & settings.keys()
        assert not {"init_from", "_instantiator"} & settings["hyper_parameters"].keys()

    @pytest.mark.parametrize("damage", ["missing", "cut", "other", "empty"])
    def test_damage_is_one_sentence(self, scorer: Path, damage: str) -> None:
        beside = scorer.with_suffix(".json")
        if damage == "missing":
            beside.unlink()
        elif damage == "cut":
            scorer.write_bytes(scorer.read_bytes()[:-9])
        else:
            beside.write_text("[]" if damage == "other" else "")
        with pytest.raises(InputError, match=r"tiny\.safetensors cannot be read with tiny\.json beside it"):
            Scorer(scorer)

    def test_is_what_export_writes(self, scorer: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
        output = tmp_path / "again.safetensors"
        export_model(output, tiny_checkpoint, format="scorer")
        assert output.read_bytes() == scorer.read_bytes()
        with pytest.raises(InputError, match=r"^--output must be a file \.safetensors that does not exist"):
            export_model(output, tiny_checkpoint, format="scorer")

    def test_goes_nowhere_else(self, tiny_checkpoint: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"must end in \.safetensors; got .*tiny\.bin"):
            write_scorer(read_checkpoint(tiny_checkpoint), tmp_path / "tiny.bin")

    def test_begins_a_fit(self, scorer: Path, tiny_checkpoint: Path) -> None:
        first, second = (read_checkpoint(path)["state_dict"] for path in (scorer, tiny_checkpoint))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


class TestShipped:
    def test_is_small_and_scores_pointwise(self) -> None:
        files = [SHIPPED, SHIPPED.with_suffix(".json")]
        assert sum(file.stat().st_size for file in files) < 12e6
        assert read_checkpoint(SHIPPED)["hyper_parameters"]["score_by"] == "pointwise"

    def test_scores_without_arguments(self, mixed_corpus: Path) -> None:
        (video,) = Scorer(device="cpu").score(min(mixed_corpus.glob("*.mp4")))
        assert video.status == "ok"
        assert video.percentile is not None

    def test_tells_a_distorted_clip_from_its_source(self, clips_folder: Path) -> None:
        pristine, distorted = (clips_folder / f"carphone_{kind}.mp4" for kind in ("pristine", "distorted"))
        assert Scorer(device="cpu").compare(distorted, pristine).probability > 0.95
