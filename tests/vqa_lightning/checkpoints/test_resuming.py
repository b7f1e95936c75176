from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from datamodules.errors import InputError
from vqa_lightning.checkpoints.resuming import allow_changes, changed_settings, changed_videos, newest_run


def config(**settings: Any) -> dict[str, Any]:
    """A configuration as config.yaml has it, cut to a few settings."""
    improvement = {
        "class_path": "callbacks.SelfImprovement",
        "init_args": {"ladders": settings.pop("ladders", 1)},
    }
    return {
        "seed_everything": 0,
        "trainer": {
            "max_epochs": settings.pop("max_epochs", 3),
            "strategy": settings.pop("strategy", "auto"),
            "callbacks": [improvement, *settings.pop("callbacks", [])],
        },
        "model": {"optimizer": settings.pop("optimizer", None)},
        "data": {"class_path": "datamodules.RoundDataModule", "init_args": {"workers": 0, **settings}},
    }


class TestChangedSettings:
    @pytest.mark.parametrize(
        ("settings", "changed"),
        [
            ({"blur": 0.5}, ["data.blur: None -> 0.5"]),
            ({"ladders": 2}, ["callbacks.SelfImprovement.ladders: 1 -> 2"]),
            ({"callbacks": [{"class_path": "mine.Averages"}]}, ["callbacks.Averages: None -> Averages"]),
            (
                {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}},
                ["model.optimizer: None -> SGD"],
            ),
        ],
    )
    def test_are_named_as_they_are_typed(self, settings: dict[str, Any], changed: list[str]) -> None:
        assert changed_settings(config(), config(**settings)) == changed

    @pytest.mark.parametrize(
        "settings",
        [
            {"max_epochs": 6},
            {"strategy": {"class_path": "lightning.pytorch.strategies.ModelParallelStrategy"}},
            {"workers": 8, "labels": "s3://bucket/labels", "videos": "elsewhere"},
            {"callbacks": [{"class_path": "callbacks.PairGallery", "init_args": {"pairs": 4}}]},
        ],
    )
    def test_are_none_where_the_outcome_is_the_same(self, settings: dict[str, Any]) -> None:
        assert changed_settings(config(), config(**settings)) == []

    def test_a_class_with_another_argument(self) -> None:
        old, new = ({"class_path": "torch.optim.SGD", "init_args": {"lr": rate}} for rate in (0.1, 0.2))
        found = changed_settings(config(optimizer=old), config(optimizer=new))
        assert found == ["model.optimizer.lr: 0.1 -> 0.2"]


def test_changed_videos_are_counted_and_named() -> None:
    before = pa.table(
        {"video_id": ["a", "b", "c"], "path": ["x/a.mp4", "x/b.mp4", "x/c.mp4"], "split": ["train"] * 3}
    )
    names = list("bcdefg")
    now = pa.table(
        {
            "video_id": names,
            "path": [f"elsewhere/{name}.mp4" for name in names],
            "split": ["select", *["train"] * 5],
        }
    )
    assert changed_videos(before, before) == []
    assert changed_videos(before, now) == [
        "4 videos new (d.mp4, e.mp4, f.mp4, ...)",
        "1 video gone (a.mp4)",
        "1 video in another split (b.mp4)",
    ]


def test_changes_are_refused_unless_forced(tmp_path: Path) -> None:
    allow_changes(tmp_path, [], force=False)
    with pytest.raises(InputError, match=r"\(data.blur: 1 -> 2; 1 video gone .*\): .* with --force\."):
        allow_changes(tmp_path, ["data.blur: 1 -> 2", "1 video gone (a.mp4)"], force=False)
    with pytest.warns(UserWarning, match="data.blur: 1 -> 2"):
        allow_changes(tmp_path, ["data.blur: 1 -> 2"], force=True)


def test_the_newest_run_is_that_of_the_highest_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no run under"):
        newest_run(tmp_path)
    for name in ("version_9", "version_10", "version_mine"):
        (tmp_path / name).mkdir()
    assert newest_run(tmp_path) == tmp_path / "version_10"
