"""Going on with a run: which one, whether its checkpoint fits, and what has changed since it began.

A checkpoint's weights mean something only under the settings they were trained with, so those must stay. Any
other change gives a run that does not end where it would have, and is for the user to allow.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_warn

from vqa_lightning.families import InputError

FREE = {
    f"model.lmm.{name}" for name in ("checkpointing", "feature_cache", "feature_cache_gb", "motion_weights")
}
"""Settings of the model that change nothing of what its weights mean."""

MEANING = (
    *("lmm", "sampling", "trained", "judgements", "loss.pointwise"),
    *("score_by", "scoring.both_orders", "scoring.anchors"),
)
"""Settings of the model under which a checkpoint's weights, or the scale of its scores, mean what they do."""

FREE_WHEN_RESUMED = (
    *sorted(FREE),
    "model.lmm.pretrained",  # `check_settings` looks whether it is the same, wherever it lies
    *("trainer.accelerator", "trainer.strategy"),  # the same numbers up to rounding
    *("trainer.max_epochs", "trainer.max_steps", "trainer.max_time", "trainer.default_root_dir"),
    *("trainer.logger", "trainer.log_every_n_steps", "trainer.profiler", "trainer.enable_checkpointing"),
    *("trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.detect_anomaly"),
    "data.videos",  # whose contents `changed_videos` compares
    *("data.labels", "data.workers", "data.drawing.cache_mb"),
    *("output", "calibration", "ckpt_path", "weights_only", "force"),
)
"""Settings of a fit that decide where it runs, how long, and what is seen of it. Of the number of devices
the pairs in a step depend, so it is not among them."""

WATCHING = {
    *("PairGallery", "RoundPictures", "RunSettings", "SourceScalars", "ModelCheckpoint"),
    *("LearningRateMonitor", "DeviceStatsMonitor", "ThroughputMonitor", "ModelSummary", "RichModelSummary"),
    *("TQDMProgressBar", "RichProgressBar"),
}
"""Callbacks that only look on; any other may decide what a run learns."""

LEFT_BEHIND = (
    *("config.yaml", "hparams.yaml", "videos.parquet", "rounds.csv", "teachers.csv", "events.out.tfevents.*"),
    *("pairs", "labels/round=[!0]*", "weights", "checkpoints", "figures"),  # round 0 is the teachers'
)
"""What a run writes into its folder."""

NAMED = 3
"""Videos that a sentence names."""


def newest_run(runs: Path) -> Path:
    """The folder of the newest run of a name.

    Args:
        runs: `runs/NAME`.

    Raises:
        InputError: there is none.
    """
    numbers = [path.name.removeprefix("version_") for path in runs.glob("version_*")]
    found = [int(number) for number in numbers if number.isdecimal()]
    if not found:
        raise InputError(f"--ckpt_path last: there is no run under {runs}: start one without it.")
    return runs / f"version_{max(found)}"


def clear_run(folder: Path) -> None:
    """Removes what a run that died before its first checkpoint has left in its folder."""
    for pattern in LEFT_BEHIND:
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def check_checkpoint(path: Path, setting: str = "--ckpt_path") -> dict[str, Any]:
    """Loads a checkpoint's contents.

    Args:
        path: the file.
        setting: by which it was named.

    Raises:
        InputError: it is missing, or no checkpoint of ours.
    """
    if not path.is_file():
        raise InputError(f"{setting} {path} is not a file: give a .ckpt that fit has written.")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        ours = {"anchors", "scale_current"} <= checkpoint.keys()
    except Exception as error:  # torch.load raises what the damage happens to cause
        raise InputError(
            f"{setting} {path} is not a checkpoint that can be read: give one that fit wrote."
        ) from error
    if not ours:
        raise InputError(
            f"{setting} {path} is a checkpoint of another model, or of an earlier version: give one that "
            "this vqa-lightning's fit wrote."
        )
    return checkpoint


def check_settings(checkpoint: dict[str, Any], model: Any) -> None:
    """Refuses settings of the model under which a checkpoint's weights mean nothing.

    Raises:
        InputError: the first that differs.
    """
    remembered = checkpoint["hyper_parameters"]
    for name in MEANING:
        typed, kept = (
            _flat(f"model.{name}", json.loads(json.dumps(_plain(reduce(getitem, name.split("."), settings)))))
            for settings in (model, remembered)
        )
        for setting in typed.keys() | kept.keys():
            new, old = typed.get(setting), kept.get(setting)
            if setting == "model.lmm.pretrained" and new is not None and old is not None:
                new, old = Path(new).name, Path(old).name  # the same checkpoint may lie elsewhere now
            if new != old and setting not in FREE:
                raise InputError(
                    f"the checkpoint was trained with {setting} {old}, not {new}: leave the setting "
                    "as it was, or start a new run."
                )


def _flat(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {key: one for part, inner in value.items() for key, one in _flat(f"{name}.{part}", inner).items()}


def _plain(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Namespace) else value


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two configurations of a fit, but for what is free when a run goes on.

    Args:
        before: that the run was begun with, as its config.yaml has it.
        now: that it is to go on with.

    Returns:
        `setting: old -> new` of each, settings named as they are typed.
    """
    return list(_changes("", _by_class(before), _by_class(now)))


def _by_class(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the callbacks that count under the names of their classes."""
    listed = config["trainer"]["callbacks"] or []
    named = {_class(one): one for one in (listed if isinstance(listed, list) else [listed])}
    counting = {name: one for name, one in named.items() if name not in WATCHING}
    return {**config, "trainer": {**config["trainer"], "callbacks": counting}}


def _class(value: Any) -> str | None:
    """The name of the class that a setting gives, None where it gives something else."""
    path = value.get("class_path") if isinstance(value, Mapping) else None
    return None if path is None else path.rpartition(".")[2]


def _changes(name: str, old: Any, new: Any) -> Iterator[str]:
    if name in FREE_WHEN_RESUMED or old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping) and _class(old) == _class(new):
        for part in dict.fromkeys([*old, *new]):
            if part != "class_path":  # the same one may be written shorter
                below = name if part == "init_args" else f"{name}.{part}".removeprefix(".")
                yield from _changes(below, old.get(part), new.get(part))
    else:
        yield f"{name}: {_class(old) or old} -> {_class(new) or new}"


def known_videos(corpus: pa.Table) -> pa.Table:
    """The readable videos of a corpus as a run's folder keeps them: `video_id`, `path`, `split`."""
    readable = corpus.filter(pc.equal(corpus["status"], "ok"))
    return readable.select(["video_id", "path", "split"])


def changed_videos(before: pa.Table, now: pa.Table) -> list[str]:
    """How many videos are new, gone or in another split, with the names of a few.

    Args:
        before: of `known_videos`, when the run began.
        now: the same today.
    """
    old, new = (
        dict(zip(table["video_id"].to_pylist(), table.select(["path", "split"]).to_pylist(), strict=True))
        for table in (before, now)
    )
    kinds = {
        "new": [row for name, row in new.items() if name not in old],
        "gone": [row for name, row in old.items() if name not in new],
        "in another split": [
            row for name, row in new.items() if name in old and row["split"] != old[name]["split"]
        ],
    }
    return [f"{_counted(rows)} {kind} ({_names(rows)})" for kind, rows in kinds.items() if rows]


def _counted(rows: Sequence[Mapping[str, str]]) -> str:
    return f"{len(rows)} video{'s' if len(rows) > 1 else ''}"


def _names(rows: Sequence[Mapping[str, str]]) -> str:
    names = [Path(row["path"]).name for row in rows[:NAMED]]
    return ", ".join([*names, *(["..."] if len(rows) > NAMED else [])])


def allow_changes(folder: Path, changes: Sequence[str], *, force: bool) -> None:
    """Ends a command that would go on with a run under other settings or with other videos.

    Args:
        folder: of the run.
        changes: what `changed_settings` or `changed_videos` found.
        force: whether they are only told.

    Raises:
        InputError: there are any, and none are allowed.
    """
    if changes and force:
        rank_zero_warn(f"{folder} goes on otherwise than it was begun ({'; '.join(changes)}).")
    elif changes:
        raise InputError(
            f"{folder} was begun otherwise ({'; '.join(changes)}): put that back, begin a new run "
            "without --ckpt_path, or go on all the same with --force."
        )
