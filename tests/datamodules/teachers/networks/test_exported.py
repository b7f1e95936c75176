from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from datamodules.errors import InputError
from datamodules.labels import Request
from datamodules.teachers.networks.exported import ExportedModel
from datamodules.video import probe

DATA = Path(__file__).resolve().parents[4].parent / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared clips are not at {DATA}")


class Convolution(nn.Module):
    """A number for each clip (B, T, 3, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = nn.Conv3d(3, 4, 3)
        self.head = nn.Linear(4, 1)

    def forward(self, clips: Tensor) -> Tensor:
        return self.head(self.kernels(clips.transpose(1, 2)).relu().mean(dim=(2, 3, 4)))


class FirstChannel(nn.Module):
    """The mean of what lies at index 0 of axis 1."""

    def forward(self, values: Tensor) -> Tensor:
        return values[:, 0].flatten(1).mean(dim=1)


@pytest.fixture(scope="module")
def model() -> Convolution:
    torch.manual_seed(0)
    return Convolution().eval()


@pytest.fixture(scope="module")
def files(model: Convolution, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The model as both kinds of file, the batch dynamic."""
    folder = tmp_path_factory.mktemp("models")
    clips = torch.rand(2, 4, 3, 24, 32)
    paths = {kind: str(folder / f"my model.{kind}") for kind in ("pt", "pt2")}
    torch.jit.trace(model, clips).save(paths["pt"])
    torch.export.save(
        torch.export.export(model, (clips,), dynamic_shapes=({0: torch.export.Dim("batch")},)), paths["pt2"]
    )
    return paths


@pytest.fixture(scope="module")
def first_channel(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("models") / "first.pt"
    torch.jit.script(FirstChannel()).save(path)
    return str(path)


@pytest.mark.parametrize("kind", ["pt", "pt2"])
class TestBothKinds:
    def test_scores_are_the_models_at_any_batch(
        self, files: dict[str, str], model: Convolution, kind: str
    ) -> None:
        teacher = ExportedModel(files[kind], frames=4)
        for batch in (1, 2, 5):
            clips = torch.rand(batch, 4, 3, 24, 32, generator=torch.Generator().manual_seed(batch))
            with torch.inference_mode():
                # The traced graph may order float32 sums in another way.
                assert torch.allclose(teacher.score(clips), model(clips)[:, 0], atol=1e-6)

    @needs_data
    def test_a_corpus_row_is_resized_and_scored(self, files: dict[str, str], kind: str) -> None:
        video = probe(DATA / "clips/nasa_13013.mp4")
        scores = [
            next(
                iter(
                    ExportedModel(files[kind], frames=4, size=(24, 32), higher_is_better=higher).annotate(
                        [Request(video)]
                    )
                )
            )
            for higher in (True, False)
        ]
        assert scores[0].score == -scores[1].score
        assert scores[0].stderr > 0

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_goes_where_the_trainer_says(self, files: dict[str, str], kind: str) -> None:
        teacher = ExportedModel(files[kind], frames=4)
        clips = torch.rand(2, 4, 3, 24, 32)
        with torch.inference_mode():  # as in predict
            host, fingerprint = teacher.score(clips), teacher.fingerprint
            teacher.device = torch.device("cuda", 0)
            teacher.fit(0)
            assert torch.allclose(teacher.score(clips.cuda()).cpu(), host, atol=1e-3)  # convolutions in TF32
        assert teacher.fingerprint == fingerprint

    def test_wrong_input_is_one_sentence(self, files: dict[str, str], kind: str) -> None:
        with pytest.raises(InputError, match=r"my_model refuses input of shape \(4, 3, 24, 32\) .*\.$"):
            ExportedModel(files[kind], layout="bchw").score(torch.rand(1, 4, 3, 24, 32))


class TestInput:
    def test_layouts_put_frames_or_channels_first(self, first_channel: str) -> None:
        clips = torch.rand(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        for layout, expected in (
            ("btchw", clips[:, 0].mean(dim=(1, 2, 3))),
            ("bcthw", clips[:, :, 0].mean(dim=(1, 2, 3))),
            ("bchw", clips[:, :, 0].mean(dim=(1, 2, 3))),
        ):
            scores = ExportedModel(first_channel, layout=layout).score(clips)  # type: ignore[arg-type]
            assert torch.allclose(scores, expected, atol=1e-6)  # float32 means

    def test_channels_are_normalised(self, first_channel: str) -> None:
        teacher = ExportedModel(first_channel, "bchw", mean=(0.5, 0, 0), std=(0.25, 1, 1))
        assert teacher.score(torch.full((1, 1, 3, 8, 8), 0.75)).item() == pytest.approx(1)

    def test_several_numbers_for_a_clip_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "identity.pt"
        torch.jit.script(nn.Identity()).save(path)
        with pytest.raises(
            InputError, match=r"one score for each of a batch of 1; got the shape \(1, 1, 3, 8, 8\)\.$"
        ):
            ExportedModel(str(path)).score(torch.rand(1, 1, 3, 8, 8))


class TestFile:
    def test_the_content_and_not_the_place_is_in_the_fingerprint(
        self, files: dict[str, str], tmp_path: Path
    ) -> None:
        original = ExportedModel(files["pt"], name="mine")
        moved = tmp_path / "moved.pt"
        moved.write_bytes(Path(files["pt"]).read_bytes())
        assert ExportedModel(str(moved), name="mine").fingerprint == original.fingerprint
        assert ExportedModel(files["pt2"], name="mine").fingerprint != original.fingerprint
        assert ExportedModel(files["pt"], "bchw", name="mine").fingerprint != original.fingerprint

    def test_what_is_no_model_is_one_sentence(self, tmp_path: Path) -> None:
        weights = tmp_path / "weights.pt"
        torch.save({"weight": torch.ones(1)}, weights)
        (tmp_path / "text.pt2").write_text("no model")
        for path in (weights, tmp_path / "text.pt2"):
            with pytest.raises(
                InputError,
                match=r"cannot be loaded \(.+\); name a TorchScript file or an exported program .*\.$",
            ):
                ExportedModel(str(path))
        with pytest.raises(InputError, match=r"absent\.pt cannot be loaded \(.*does not exist\); .*\.$"):
            ExportedModel(str(tmp_path / "absent.pt"))

    def test_settings_out_of_range_are_refused(self, first_channel: str) -> None:
        with pytest.raises(InputError, match=r"must be one of btchw, bcthw, bchw; got 'bhwc'\.$"):
            ExportedModel(first_channel, layout="bhwc")  # type: ignore[arg-type]
        with pytest.raises(
            InputError, match=r"three numbers each, the std above 0; got .* and \(1, 1, 0\)\.$"
        ):
            ExportedModel(first_channel, std=(1, 1, 0))
