from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from datamodules.errors import InputError
from datamodules.teachers.networks.arniqa import ARNIQA


class Regressor(nn.Module):
    """What the authors' release holds: a linear map of the features at two scales."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.randn(1, 4096))
        self.register_buffer("biases", torch.tensor(50.0))

    def forward(self, features: Tensor) -> Tensor:
        return features @ self.weights.T + self.biases


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of torch.hub with random weights under the names of the release."""
    hub = tmp_path_factory.mktemp("hub")
    (hub / "checkpoints").mkdir()
    torch.manual_seed(0)
    encoder = nn.Sequential(*list(resnet50().children())[:-1])
    weights = {f"model.{name}": tensor for name, tensor in encoder.state_dict().items()}
    torch.save(weights, hub / "checkpoints/ARNIQA.pth")
    script = torch.jit.trace(Regressor(), torch.rand(1, 4096))
    torch.jit.save(script, hub / "checkpoints/regressor_koniq10k.pth")
    return hub


def test_scores_from_files_of_the_user(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(hub))
    teacher = ARNIQA()
    teacher.fit(0)
    assert (teacher.name, ARNIQA(name="mine").name) == ("arniqa", "mine")
    clips = torch.rand(2, 2, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scores = teacher.score(clips)
        alone = teacher.score(clips[1:, :1])
        pair = teacher.score(clips[1:, 1:])
    assert scores.shape == (2,)
    # One image in a batch and alone: convolutions of float32 in another order.
    assert ((alone + pair) / 2).item() == pytest.approx(scores[1].item(), abs=1e-4)
    # The scale of KonIQ-10k, 1 to 100, to [0, 1]; unit features times random weights stay near the bias.
    assert scores.tolist() == pytest.approx([(50 - 1) / 99] * 2, abs=0.1)


def test_missing_files_without_a_network_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    for proxy in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(InputError, match=r"put ARNIQA\.pth and regressor_kadid10k\.pth of https\S+ there\.$"):
        ARNIQA("kadid10k")


def test_another_regressor_is_refused() -> None:
    with pytest.raises(InputError, match=r"must be one of koniq10k, kadid10k; got 'spaq'\.$"):
        ARNIQA("spaq")  # type: ignore[arg-type]
