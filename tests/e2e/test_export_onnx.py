"""The command `export --format onnx`: one file that scores as predict does, with the program of the docs."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.labels import LEVELS
from datamodules.video import probe, read_clip
from vqa_lightning.annotators.checkpoint_teacher import load_checkpoint
from vqa_lightning.annotators.scorer import model_name
from vqa_lightning.cli import main
from vqa_lightning.commands import onnx_file
from vqa_lightning.families import FAMILIES, EmbeddedSizes
from vqa_lightning.lmm.prompt import ANSWER, QUESTION, SYSTEM

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

(PROGRAM,) = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "onnx.md").read_text(), re.DOTALL
)
TOLERANCE = 1e-4
"""Of a score: float32 sums in another order come to a tenth of it."""

Refused = Callable[..., str]


def export(checkpoint: Path, output: Path) -> list[str]:
    return ["export", "--ckpt_path", str(checkpoint), "--format", "onnx", "--output", str(output)]


@pytest.fixture(scope="module")
def checkpoint(save_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that looks at whole frames as that of round.yaml does, with a scale and quantiles."""
    path = tmp_path_factory.mktemp("whole") / "last.ckpt"
    eyes = (
        "pictures=false",
        "quality_tower=efficientnet_lite0",
        "motion=differences",
        "feature_cache=memory",
    )
    cut = ("sampling.segments=2", "sampling.frames=4", "scoring.draws=2", "scoring.whole=true")
    save_checkpoint(path, *(f"lmm.{one}" for one in eyes), *cut)
    saved = torch.load(path, weights_only=True)
    saved["state_dict"]["scale"] = torch.tensor([0.0, 0.5, 0.7, 0.1])
    saved["state_dict"]["quantiles"] = torch.linspace(20, 80, 101)
    torch.save(saved, path)
    return path


@pytest.fixture(scope="module")
def scorer(checkpoint: Path) -> Path:
    path = checkpoint.with_name("scorer.onnx")
    main(export(checkpoint, path))
    return path


def test_the_file_is_valid_and_says_how_it_scores(scorer: Path, checkpoint: Path) -> None:
    model = onnx.load(scorer)
    onnx.checker.check_model(model, full_check=True)
    assert {one.domain: one.version for one in model.opset_import} == {"": onnx_file.OPSET}
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert [one.dim_param or one.dim_value for one in shape] == ["clips", 8, 3, "height", "width"]
    assert [file.name for file in scorer.parent.iterdir() if "onnx" in file.name] == ["scorer.onnx"]
    rule = json.loads({one.key: one.value for one in model.metadata_props}["vqa_lightning"])
    assert rule["model"] == model_name(load_checkpoint(checkpoint))
    assert rule["draws"][0] == {"window": [0.5, 0.5], "segments": [0.5, 0.5]}
    assert len(rule["draws"]) == 2
    assert (rule["factor"], rule["floor"]) == pytest.approx((0.7, 2.0))


def test_one_file_scores_any_number_of_clips_of_any_size(
    scorer: Path, checkpoint: Path, clips_folder: Path
) -> None:
    module = load_checkpoint(checkpoint)
    session = onnxruntime.InferenceSession(scorer)
    for name in ("carphone_pristine.mp4", "nasa_13013.mp4"):
        video = probe(clips_folder / name)
        clips = torch.stack([read_clip(video, module.score_sampling, draw).frames for draw in range(3)])
        clips = clips[..., : clips.shape[-2] - 1, :]  # an odd number of lines
        with torch.no_grad():
            expected, _ = module.published(module.rate(clips / 255), module.scale[0])
        together = session.run(None, {"frames": clips.numpy()})[0]
        alone = [session.run(None, {"frames": clip[None].numpy()})[0][0] for clip in clips]
        assert np.ptp(together) > 10 * TOLERANCE
        assert together == pytest.approx(expected.numpy(), abs=TOLERANCE)
        assert together == pytest.approx(np.array(alone), abs=TOLERANCE)


def test_the_program_of_the_docs_writes_what_predict_writes(
    here: Path, scorer: Path, checkpoint: Path, clips_folder: Path
) -> None:
    (here / "clips").symlink_to(clips_folder)
    (here / "scorer.onnx").symlink_to(scorer)
    exec(compile(PROGRAM, "docs/onnx.md", "exec"), {})
    (here / "scores.csv").rename("theirs.csv")
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    main(["predict", "--ckpt_path", str(checkpoint), "--data.videos", "clips", *quiet])
    with open("theirs.csv") as one, open("scores.csv") as other:
        theirs, ours = list(csv.DictReader(one)), list(csv.DictReader(other))
    assert list(theirs[0]) == list(ours[0])
    numbers = ("score", "stderr", "percentile")
    for row, expected in zip(theirs, ours, strict=True):
        for name in numbers:
            # The percentile rises by five thirds of what the score does.
            assert float(row.pop(name)) == pytest.approx(float(expected.pop(name)), abs=2 * TOLERANCE)
        assert row == expected


def test_native_windows_that_the_tower_sees(tiny_checkpoint: Path, tmp_path: Path) -> None:
    main(export(tiny_checkpoint, tmp_path / "scorer.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "scorer.onnx")
    assert session.get_inputs()[0].shape == ["clips", 2, 3, 32, 32]


class TestRefusal:
    def test_of_a_published_model(
        self, tmp_path: Path, save_checkpoint: Callable[..., Path], refused: Refused
    ) -> None:
        family = FAMILIES["smolvlm"]
        sizes = EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1)
        tiny = family.embedded(sizes, (SYSTEM, QUESTION, ANSWER, *LEVELS))
        for part in (tiny.model, tiny.processor):
            part.save_pretrained(tmp_path / "base")
        path = save_checkpoint(tmp_path / "last.ckpt", f"lmm.pretrained={tmp_path / 'base'}")
        said = refused(main, export(path, tmp_path / "scorer.onnx"))
        assert said.startswith(f"--format onnx takes the embedded model; got {tmp_path / 'base'}")
        assert not (tmp_path / "scorer.onnx").exists()

    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            (["score_by=pairwise"], "takes a checkpoint that scores pointwise; got model.score_by pairwise"),
            (["lmm.view=resize"], "takes model.lmm.pictures true with native views"),
            (["scoring.whole=true"], "takes model.lmm.pictures true with native views of windows alone"),
        ],
    )
    def test_of_what_is_no_fixed_arithmetic(
        self,
        tmp_path: Path,
        save_checkpoint: Callable[..., Path],
        settings: list[str],
        sentence: str,
        refused: Refused,
    ) -> None:
        path = save_checkpoint(tmp_path / "last.ckpt", *settings)
        assert sentence in refused(main, export(path, tmp_path / "scorer.onnx"))

    def test_without_the_extra(
        self, tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
    ) -> None:
        monkeypatch.setattr(onnx_file, "PACKAGES", ("onnx", "not_there"))
        said = refused(main, export(tiny_checkpoint, tmp_path / "scorer.onnx"))
        assert said.endswith("needs not_there, which is not installed: pip install 'vqa-lightning[onnx]'.")

    @pytest.mark.parametrize("name", ["scorer.pt", "there.onnx", "no/scorer.onnx"])
    def test_of_a_place(self, tmp_path: Path, tiny_checkpoint: Path, name: str, refused: Refused) -> None:
        (tmp_path / "there.onnx").write_text("mine")
        said = refused(main, export(tiny_checkpoint, tmp_path / name))
        assert said.startswith("--output must be a file .onnx that does not exist")
        assert (tmp_path / "there.onnx").read_text() == "mine"
