"""README and docs: every setting that they name is there, and every config that they show is read."""

import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml  # type: ignore[import-untyped]
from lightning.pytorch import LightningDataModule
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.cli import LightningCLI

import callbacks
from datamodules.benchmark_data import BenchmarkDataModule
from datamodules.round_data import RoundDataModule
from datamodules.video_data import VideoDataModule
from vqa_lightning.annotators.teacher_module import TeacherModule
from vqa_lightning.training import RankingModule

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROOTS: dict[str, list[type]] = {
    "data": [RoundDataModule, VideoDataModule, BenchmarkDataModule],
    "model": [RankingModule, TeacherModule],
}
OTHERS = ("class_path", "help", "init_args")
"""What the command line itself adds to every class."""
CONFIGS = [
    config
    for name in ("people", "settings", "own_labels")
    for config in re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / f"{name}.md").read_text(), re.DOTALL)
]


def parts(hint: Any) -> Iterator[Any]:
    """A type, and all types inside a union of types."""
    yield hint
    for inner in get_args(hint):
        yield from parts(inner)


def takes(kind: Any, names: list[str]) -> bool:
    """Whether a class has a setting of this dotted name; the keys of a mapping may be any."""
    hints = get_type_hints(kind if dataclasses.is_dataclass(kind) else kind.__init__)
    if names[0] not in hints:
        return False
    inner = [part for part in parts(hints[names[0]]) if dataclasses.is_dataclass(part)]
    return len(names) == 1 or not inner or any(takes(part, names[1:]) for part in inner)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_are_there(page: Path) -> None:
    named = set(re.findall(r"(?:--|`)((?:data|model|callbacks)\.[\w.]+)", page.read_text()))
    missing = []
    for name in sorted(named):
        first, *rest = name.rstrip(".").split(".")
        if first == "callbacks":
            kind = getattr(callbacks, rest[0], None) or getattr(lightning_callbacks, rest[0], None)
            names = [name for name in rest[1:] if not name.isdigit()]  # of a class that is listed twice
            found = kind is not None and (not names or takes(kind, names))
        else:
            found = rest[0] in OTHERS or any(takes(kind, rest) for kind in ROOTS[first])
        if not found:
            missing.append(name)
    assert not missing


def test_the_image_is_made_and_run_by_the_words_of_the_readme() -> None:
    _, fit, test = re.findall(r"^python3 -m venv .*$", PAGES[0].read_text(), re.MULTILINE)
    image = (ROOT / "Dockerfile").read_text()
    *set_up, run = test.split(" && ")
    assert f"RUN {' && '.join(set_up)}\n" in image.replace("--no-cache-dir ", "")
    assert f"docker run vqa-lightning {run}\n" in image
    (words,) = re.findall(r"^CMD (.*)$", image, re.MULTILINE)
    assert " ".join(yaml.safe_load(words)) == fit.split(" && ")[-1]


class Parsed(LightningCLI):
    """The parser, with nothing made of what it read."""

    def instantiate_classes(self) -> None:
        """Left out."""


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.split("\n")[0])
def test_configs_are_read(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_module.py").write_text("def fade(clips, strength, times, generator):\n    return clips\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = config
    if config.startswith("    teachers:"):  # goes on with the config above it
        text = "data:\n  class_path: RoundDataModule\n  init_args:\n" + config
    data = [] if "data" in yaml.safe_load(text) else ["--data=RoundDataModule"]
    path = tmp_path / "config.yaml"
    path.write_text(text)
    Parsed(
        RankingModule,
        LightningDataModule,
        subclass_mode_data=True,
        run=False,
        save_config_callback=None,
        seed_everything_default=0,
        args=["--config", str(path), *data],
    )
    sys.modules.pop("my_module", None)
