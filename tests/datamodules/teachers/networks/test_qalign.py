import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import dynamic_module_utils

from datamodules.errors import InputError
from datamodules.labels import Request
from datamodules.teachers.networks.qalign import QAlign
from datamodules.video import probe

DATA = Path(__file__).resolve().parents[4].parent / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared clips are not at {DATA}")

CODE = '''
import numpy
import torch
from transformers import PretrainedConfig, PreTrainedModel


class BrightnessConfig(PretrainedConfig):
    model_type = "brightness"


class BrightnessForCausalLM(PreTrainedModel):
    """Calls a video the better the brighter it is, 1 to 5."""

    config_class = BrightnessConfig

    def __init__(self, config):
        super().__init__(config)
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.post_init()

    def METHOD(self, images, task_="quality", input_="image"):
        assert (task_, input_) == ("quality", "video")
        means = [numpy.mean([numpy.asarray(frame).mean() for frame in video]) for video in images]
        return (1 + 4 * self.scale * torch.tensor(means) / 255).half()
'''


def write_repository(folder: Path, method: str = "score") -> str:
    """Write a repository with code and weights of its own and return its folder."""
    folder.mkdir(exist_ok=True)
    (folder / "modeling_brightness.py").write_text(CODE.replace("METHOD", method))
    config = {
        "model_type": "brightness",
        "auto_map": {
            "AutoConfig": "modeling_brightness.BrightnessConfig",
            "AutoModelForCausalLM": "modeling_brightness.BrightnessForCausalLM",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    torch.save({"scale": torch.ones(())}, folder / "pytorch_model.bin")
    return str(folder)


@pytest.fixture(autouse=True, scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the copies of code that transformers makes out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        patch.setattr(sys, "path", sys.path.copy())
        yield


@pytest.fixture
def repository(tmp_path: Path) -> str:
    return write_repository(tmp_path / "repository")


class TestTrust:
    def test_nothing_runs_before_the_user_says_so(self, repository: str) -> None:
        Path(repository, "modeling_brightness.py").write_text("raise SystemError('the code was run')")
        with pytest.raises(InputError, match=r"runs the Python code in .* set trust_remote_code to true\.$"):
            QAlign(repository)
        with pytest.raises(SystemError):
            QAlign(repository, trust_remote_code=True)


class TestScore:
    def test_videos_go_to_the_repositorys_own_method(self, repository: str) -> None:
        teacher = QAlign(repository, trust_remote_code=True)
        clips = torch.tensor([0.0, 0.2, 1.0])[:, None, None, None, None].expand(3, 4, 3, 16, 24)
        scores = teacher.score(clips)
        assert scores.dtype == torch.float32
        assert scores.tolist() == pytest.approx([1, 1.8, 5], abs=2e-3)  # the model answers in half precision

    @needs_data
    def test_all_frames_of_a_video_are_one_question(self, repository: str) -> None:
        (row,) = QAlign(repository, trust_remote_code=True, segments=3).annotate(
            [Request(probe(DATA / "clips/nasa_13013.mp4"))]
        )
        assert 1 < row.score < 5
        assert row.stderr != row.stderr  # one answer has no spread


class TestRepository:
    def test_edited_code_is_another_annotator_and_another_place_is_not(
        self, repository: str, tmp_path: Path
    ) -> None:
        first = QAlign(repository, trust_remote_code=True).fingerprint
        moved = write_repository(tmp_path / "moved")
        assert QAlign(moved, trust_remote_code=True).fingerprint == first
        code = Path(moved, "modeling_brightness.py")
        code.write_text(code.read_text() + "\n")
        assert QAlign(moved, trust_remote_code=True).fingerprint != first

    @pytest.mark.parametrize("method", ["", "rate"])
    def test_what_is_no_such_model_is_one_sentence(self, tmp_path: Path, method: str) -> None:
        folder = write_repository(tmp_path / "other", method) if method else str(tmp_path)
        with pytest.raises(InputError, match=r"The Q-Align model .* cannot be loaded \(.+\); .*\.$"):
            QAlign(folder, trust_remote_code=True)
