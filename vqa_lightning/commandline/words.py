"""The words of a command line, prepared for the parser: short ways to say what LightningCLI wants in full.

What a user types wins over what a checkpoint remembers; a checkpoint fills in what nobody typed.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from datamodules.errors import InputError
from datamodules.names import name_of
from vqa_lightning.checkpoints.remembered import remembered_settings
from vqa_lightning.checkpoints.resuming import KEPT, check_checkpoint, newest_run
from vqa_lightning.checkpoints.scorer_file import SHIPPED
from vqa_lightning.commands.listing import shipped_configs

SUBCOMMANDS = ("fit", "validate", "test", "predict")

_CONFIG = ("--config", "-c")


def values_of(words: Sequence[str], *flags: str) -> list[str]:
    """Return the values of flags, whether typed as `--flag value` or as `--flag=value`."""
    split = [part for word in words for part in (word.split("=", 1) if word.startswith("-") else [word])]
    return [value for flag, value in pairwise(split) if flag in flags]


def with_known_configs(words: Sequence[str]) -> list[str]:
    """Replace bare names of shipped configs by their paths.

    Raises:
        InputError: a config is neither a file nor shipped.
    """
    shipped = shipped_configs()
    found = []
    for before, word in zip(["", *words], words, strict=False):
        flag, joined, value = word.partition("=")
        if joined and flag in _CONFIG:
            word = f"{flag}={_known(value, shipped)}"
        elif before in _CONFIG:
            word = _known(word, shipped)
        found.append(word)
    return found


def _known(name: str, shipped: dict[str, Path]) -> str:
    if _is_text(name) or Path(name).is_file():
        return name
    if name in shipped:
        return str(shipped[name])
    raise InputError(f"--config must be a file or a shipped config ({', '.join(shipped)}); got {name}.")


def _is_text(config: str) -> bool:
    """Tell whether a config is given in place, as JSON, and not by the name of a file."""
    return config.lstrip().startswith("{")


def _text(config: str) -> str:
    """Return what a config says.

    Raises:
        InputError: it holds bytes that are not of the locale's encoding.
    """
    if _is_text(config):
        return config
    try:
        return Path(config).read_text()
    except UnicodeDecodeError as error:
        raise InputError(
            f"--config {name_of(config)} is not in the locale's encoding: save it as UTF-8, and set "
            "PYTHONUTF8=1 where the locale knows ASCII alone."
        ) from error


def run_name(configs: Sequence[Any] | None) -> str:
    """Return the stem of the first config that is a file; `run` where everything was typed."""
    files = [str(config) for config in configs or () if config is not None]
    return Path(files[0]).stem if files else "run"


def with_newest_run(words: list[str]) -> tuple[list[str], Path | None]:
    """Replace `--ckpt_path last` by the last checkpoint of the newest run named as the first config is.

    Returns:
        The words, and the folder of that run if the run is to begin again because it has no checkpoint.

    Raises:
        InputError: there is no run of that name.
    """
    if _last(words, "--ckpt_path") != "last":
        return words, None
    root = _last(words, "--trainer.default_root_dir") or "."
    folder = newest_run(Path(root) / "runs" / run_name(values_of(words, *_CONFIG)))
    checkpoint = folder / "checkpoints" / "last.ckpt"
    rest = [
        word
        for before, word in pairwise(["", *words])
        if before != "--ckpt_path" and word.partition("=")[0] != "--ckpt_path"
    ]
    if words[0] == "fit" and not checkpoint.is_file():
        return rest, folder
    return [*rest, "--ckpt_path", str(checkpoint)], None


def with_checkpoint_below(words: list[str]) -> list[str]:
    """Lay a checkpoint's hyper-parameters under everything typed.

    The commands that only use a model take all of them. A fit that begins with a checkpoint's weights takes
    the settings without which the weights would mean something else.

    Raises:
        InputError: the checkpoint is not one of ours.
    """
    if not words or words[0] not in SUBCOMMANDS or names_teacher(words):
        return words
    setting, given = "--ckpt_path", _last(words, "--ckpt_path")
    if words[0] == "fit":
        first = _last(words, "--model.init_from") or configured(words, "model").get("init_from")
        if first is None or given is None:
            setting, given = "--model.init_from", first
    if given is None:
        return words
    remembered = remembered_settings(
        check_checkpoint(Path(given), setting),
        Path(given),
        lambda name: _last(words, f"--model.{name}") is not None,
    )
    if words[0] == "fit":
        remembered = {name: value for name, value in remembered.items() if name in KEPT}
        if "loss" in remembered:  # which sources count how much is no part of what the weights mean
            remembered["loss"] = {**remembered["loss"]}
            remembered["loss"].pop("source_weights", None)
    return [words[0], "--config", json.dumps({"model": remembered}), *words[1:]]


def with_shipped_scorer(words: list[str]) -> list[str]:
    """Have predict and test score by this package's scorer where neither checkpoint nor teacher is named."""
    named = _last(words, "--ckpt_path") or any(config.get("ckpt_path") for config in configs_of(words))
    if words[:1] not in (["predict"], ["test"]) or named or names_teacher(words):
        return words
    return [*words, "--ckpt_path", str(SHIPPED)]


def with_plain_videos(words: list[str]) -> list[str]:
    """Have predict read videos and no pairs where configs name a fit's datamodule, or none.

    Nothing that such a datamodule is set to costs time then, or can fail. Configs come first, so that what is
    typed wins wherever it stands.
    """
    named = str(configured(words, "data").get("class_path", "RoundDataModule"))
    if words[:1] != ["predict"] or names_teacher(words) or not named.endswith("RoundDataModule"):
        return words
    configs: list[str] = []
    typed: list[str] = []
    for before, word in pairwise(words):
        of_config = before in _CONFIG or word.partition("=")[0] in _CONFIG
        (configs if of_config else typed).append(word)
    # A fit's number of workers, if only its default, would be taken over.
    plain = ["--data", "datamodules.VideoDataModule", "--data.workers", "null"]
    return ["predict", *configs, *plain, *typed]


def configs_of(words: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the configs among the words up to a broken one, of which the parser will say what is wrong."""
    for config in values_of(words, *_CONFIG):
        try:
            loaded = yaml.safe_load(_text(config))
        except yaml.YAMLError:
            return
        if isinstance(loaded, dict):
            yield loaded


def broken_config(words: Sequence[str]) -> str | None:
    """Return the first config among the words that is no mapping, with the place where it is broken."""
    for config in values_of(words, *_CONFIG):
        try:
            loaded = yaml.safe_load(_text(config))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            return f"{config} (line {mark.line + 1}, column {mark.column + 1})" if mark else config
        except yaml.YAMLError:
            return config
        if not isinstance(loaded, dict):
            return config
    return None


def configured(words: Sequence[str], part: str) -> dict[str, Any]:
    """Return what the configs among the words say of a part such as `model`, the last config winning."""
    parts = [config.get(part) for config in configs_of(words)]
    return {name: value for found in parts if isinstance(found, dict) for name, value in found.items()}


def names_teacher(words: Sequence[str]) -> bool:
    """Tell whether predict is asked to score by a teacher, in words or in a config."""
    typed = any(word.startswith("--model.teacher") for word in words)
    return words[:1] == ["predict"] and (typed or "teacher" in configured(words, "model"))


def _last(words: Sequence[str], flag: str) -> str | None:
    values = values_of(words, flag)
    return values[-1] if values else None
