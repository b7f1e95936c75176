"""A user's own simulators from YAML, and the identity under which scores of their clips are kept."""

import importlib
import linecache
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from jsonargparse import auto_cli

from datamodules.codecs import Codec
from datamodules.distortions import DISTORTIONS, Distortion, jpeg

FADE = """
def fade(clips, strength, times, generator):
    return clips * (1 - {factor} * strength[:, None, None, None, None])
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's file, importable as `own_simulators`."""
    path = tmp_path / "own_simulators.py"
    path.write_text(FADE.format(factor=1))
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop("own_simulators", None)


class TestConfig:
    YAML = """
simulators:
  - resize
  - {name: fade, function: own_simulators.fade, levels: [0.2, 0.5], family: tone}
  - {name: low, function: datamodules.distortions.jpeg, levels: [10, 5, 2]}
  - {name: x264_low, encoder: libx264, levels: [40, 50], options: {preset: fast}}
"""

    def parsed(self, folder: Path) -> list[str | Distortion | Codec]:
        def simulators_of(simulators: list[str | Distortion | Codec]) -> list[str | Distortion | Codec]:
            return simulators

        config = folder / "config.yaml"
        config.write_text(self.YAML)
        return auto_cli(simulators_of, args=["--config", str(config)])  # type: ignore[no-any-return]

    def test_own_function(self, own_module: Path) -> None:
        """Functions by their dotted path, annotated or not, in one list with names and codecs."""
        name, fade, low, codec = self.parsed(own_module.parent)
        assert name == "resize"
        assert isinstance(fade, Distortion)
        assert (fade.levels, fade.family) == ((0.2, 0.5), "tone")
        white = torch.ones(2, 1, 3, 8, 8)
        faded = fade(white, torch.tensor([1, 2]))
        assert faded[:, 0, 0, 0, 0].tolist() == pytest.approx([0.8, 0.5])
        assert isinstance(low, Distortion)
        assert low.function is jpeg
        assert low.family == "other"
        assert isinstance(codec, Codec)

    def test_identity(self, own_module: Path) -> None:
        """A hash beside the name that changes with strengths and with code, and with nothing else."""
        _, fade, low, _ = self.parsed(own_module.parent)
        assert isinstance(fade, Distortion)
        assert isinstance(low, Distortion)
        again = Distortion("jpeg", jpeg, DISTORTIONS["jpeg"].levels)  # the family decides no pixel
        assert again.identity == DISTORTIONS["jpeg"].identity
        assert replace(again, levels=(40, 20)).identity not in (again.identity, "jpeg")
        assert re.fullmatch("fade-[0-9a-f]{8}", fade.identity)
        assert replace(fade, levels=(0.2, 0.6)).identity != fade.identity
        assert low.identity != replace(low, name="lower").identity

        own_module.write_text(FADE.format(factor=0.5))
        del sys.modules["own_simulators"]
        importlib.invalidate_caches()
        linecache.checkcache()
        _, edited, *_ = self.parsed(own_module.parent)
        assert isinstance(edited, Distortion)
        assert edited.identity != fade.identity
