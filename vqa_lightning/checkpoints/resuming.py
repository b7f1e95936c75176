"""Going on with a run: which one, whether its checkpoint fits, and what has changed since it began.

A checkpoint's weights mean something only under the settings they were trained with, so these settings must
stay. After any other change a run does not end where it would have; the user must allow such a change.
"""

import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.errors import InputError
from vqa_lightning.checkpoints.scorer_file import read_file

FREE = {
    f"model.lmm.{name}" for name in ("checkpointing", "feature_cache", "feature_cache_gb", "motion_weights")
}
"""Settings of the model that change nothing of what its weights mean."""

MEANING = (
    *("lmm", "sampling", "trained", "judgements", "loss.pointwise"),
    *("score_by", "scoring.both_orders", "scoring.anchors"),
)
"""Settings of the model under which a checkpoint's weights, or the scale of its scores, mean what they do."""

KEPT = ("lmm", "sampling", "trained", "judgements", "score_by", "loss")
"""Settings of the model that a fit takes from the checkpoint whose weights it begins with."""

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
    *("pool", "report", "fail_below", "baseline", "max_drop", "confidence", "junit"),
)
"""Settings of a fit that decide where it runs, how long, and what is seen of it. The number of devices is not
among them, for the pairs in a step depend on it."""

WATCHING = {
    *("PairGallery", "RoundPictures", "RunSettings", "SourceScalars", "ModelCheckpoint"),
    *("LearningRateMonitor", "DeviceStatsMonitor", "ThroughputMonitor", "ModelSummary", "RichModelSummary"),
    *("TQDMProgressBar", "RichProgressBar"),
}
"""Callbacks that only look on; any other callback may decide what a run learns."""

LEFT_BEHIND = (
    *("config.yaml", "hparams.yaml", "videos.parquet", "rounds.csv", "teachers.csv", "events.out.tfevents.*"),
    *("pairs", "labels/round=[!0]*", "weights", "checkpoints", "figures"),  # round 0 is the teachers'
)
"""What a run writes into its folder."""

NAMED = 3
"""Videos that a sentence names."""


def newest_run(runs: Path) -> Path:
    """Return the folder of the newest run of a name.

    Args:
        runs: `runs/NAME`.

    Raises:
        InputError: there is no run of that name.
    """
    numbers = [path.name.removeprefix("version_") for path in runs.glob("version_*")]
    found = [int(number) for number in numbers if number.isdecimal()]
    if not found:
        raise InputError(f"--ckpt_path last: there is no run under {runs}: start one without it.")
    return runs / f"version_{max(found)}"


def clear_run(folder: Path) -> None:
    """Remove what a run that died before its first checkpoint has left in its folder."""
    for pattern in LEFT_BEHIND:
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def check_checkpoint(path: Path, setting: str = "--ckpt_path") -> dict[str, Any]:
    """Load a checkpoint's contents.

    Args:
        path: the file.
        setting: the flag that named the file.

    Raises:
        InputError: the file is missing, or is no checkpoint of ours.
    """
    if not path.is_file():
        raise InputError(f"{setting} must be a .ckpt that fit wrote; got {path}, which is not a file.")
    try:
        checkpoint = read_file(path)
        settings = checkpoint.get("hyper_parameters", {})
        ours = {"anchors", "scale_current"} <= checkpoint.keys() and "score_draws" not in settings  # of 0.1.0
    except InputError:
        raise
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


def check_settings(checkpoint: dict[str, Any], model: Namespace) -> None:
    """Refuse settings of the model under which a checkpoint's weights mean nothing.

    Raises:
        InputError: a setting differs; the sentence names the first one.
    """
    remembered = checkpoint["hyper_parameters"]
    for path in [name.split(".") for name in MEANING if name.split(".")[0] in remembered]:
        kept, typed = (_plain(reduce(getitem, path, settings)) for settings in (remembered, model))
        for setting, old, new in _changes(".".join(["model", *path]), kept, typed, FREE):
            if setting == "model.lmm.pretrained" and old and new and Path(old).name == Path(new).name:
                continue  # the same checkpoint may lie elsewhere now
            raise InputError(
                f"the checkpoint was trained with {setting} {_class(old) or old}, not {_class(new) or new}: "
                "leave the setting as it was, or start a new run."
            )


def _plain(value: Any) -> Any:
    """Return a setting as JSON has it, whether jsonargparse or a checkpoint holds it."""
    return json.loads(json.dumps(value.as_dict() if isinstance(value, Namespace) else value))


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List what differs between two configurations of a fit, but for what is free when a run goes on.

    Args:
        before: the configuration with which the run began, as its config.yaml has it.
        now: the configuration with which the run is to go on.

    Returns:
        `setting: old -> new` of each, settings named as they are typed.
    """
    changes = _changes("", _by_class(before), _by_class(now), FREE_WHEN_RESUMED)
    return [f"{name}: {_class(old) or old} -> {_class(new) or new}" for name, old, new in changes]


def _by_class(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration whose `callbacks` are those that count, by class as on the command line."""
    trainer = dict(config["trainer"])
    listed = trainer.pop("callbacks") or []
    named = {_class(one): one for one in (listed if isinstance(listed, list) else [listed])}
    counting = {name: one for name, one in named.items() if name not in WATCHING}
    return {**config, "trainer": trainer, "callbacks": counting}


def _class(value: Any) -> str | None:
    """Return the name of the class that a setting gives; None where it gives something else."""
    path = value.get("class_path") if isinstance(value, Mapping) else None
    return None if path is None else path.rpartition(".")[2]


def _changes(name: str, old: Any, new: Any, free: Collection[str]) -> Iterator[tuple[str, Any, Any]]:
    """Yield each setting that differs and is not free, with its old and its new value."""
    if name in free or old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping) and _class(old) == _class(new):
        for part in dict.fromkeys([*old, *new]):
            if part != "class_path":  # the same one may be written shorter
                below = name if part == "init_args" else f"{name}.{part}".removeprefix(".")
                yield from _changes(below, old.get(part), new.get(part), free)
    else:
        yield name, old, new


def known_videos(corpus: pa.Table) -> pa.Table:
    """Return the readable videos of a corpus as a run's folder keeps them: `video_id`, `path`, `split`."""
    readable = corpus.filter(pc.equal(corpus["status"], "ok"))
    return readable.select(["video_id", "path", "split"])


def changed_videos(before: pa.Table, now: pa.Table) -> list[str]:
    """Tell how many videos are new, gone or in another split, with the names of a few.

    Args:
        before: what `known_videos` gave when the run began.
        now: what it gives today.
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
    told = []
    for kind, rows in kinds.items():
        names = [Path(row["path"]).name for row in rows[:NAMED]] + ["..."] * (len(rows) > NAMED)
        if rows:
            told.append(f"{len(rows)} video{'s' if len(rows) > 1 else ''} {kind} ({', '.join(names)})")
    return told


def allow_changes(folder: Path, changes: Sequence[str], *, force: bool) -> None:
    """End a command that would go on with a run under other settings or with other videos.

    Args:
        folder: of the run.
        changes: what `changed_settings` or `changed_videos` found.
        force: whether a warning tells the changes and the run goes on.

    Raises:
        InputError: there are changes, and `force` is not set.
    """
    if changes and force:
        rank_zero_warn(f"{folder} goes on otherwise than it was begun ({'; '.join(changes)}).")
    elif changes:
        raise InputError(
            f"{folder} was begun otherwise ({'; '.join(changes)}): put that back, begin a new run "
            "without --ckpt_path, or go on all the same with --force."
        )
