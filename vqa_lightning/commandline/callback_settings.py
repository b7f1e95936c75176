"""`--callbacks.CLASS.SETTING VALUE`: one setting of a callback that a config lists, named by its class.

LightningCLI can only replace the whole list `trainer.callbacks`. So the list is parsed first, the settings
are put into it, and the changed list follows the other words: everything after that, the saved config.yaml
included, sees one ordinary `trainer.callbacks`.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]
from jsonargparse import ArgumentParser

from datamodules.errors import InputError
from vqa_lightning.commandline.nearest import nearest, not_a_setting

PREFIX = "--callbacks."

_PRINT = "--print_config"


class _Typed(NamedTuple):
    flag: str
    value: str


def with_callback_settings(parser: ArgumentParser, words: Sequence[str]) -> list[str]:
    """Replace the flags that begin with `--callbacks.` by one `--trainer.callbacks` with the whole list.

    Args:
        parser: of the command line, all subcommands.
        words: the subcommand and its arguments, in any order.

    Raises:
        InputError: no config lists the class, or a config lists it twice, or the class lacks the setting.
    """
    typed, rest = _split(words)
    if not typed:
        return rest
    config = parser.parse_args([word for word in rest if word.partition("=")[0] != _PRINT])
    whole = yaml.safe_load(parser.dump(config, skip_none=False))
    listed = whole[config.subcommand]["trainer"]["callbacks"] or []
    listed = listed if isinstance(listed, list) else [listed]
    named = named_callbacks(listed)
    for flag, value in typed:
        name = max((name for name in named if flag.startswith(f"--{name}.")), key=len, default="")
        steps = flag.removeprefix(f"--{name}.").split(".")
        settings = named[name].setdefault("init_args", {}) if name else {}
        if steps[0] not in settings:
            raise InputError(_refused(flag, named))
        for step in steps[:-1]:
            if not isinstance(settings.get(step), dict):
                settings[step] = {}
            settings = settings[step]
        settings[steps[-1]] = value
    return [*rest, "--trainer.callbacks", json.dumps(listed)]


def with_subcommand_first(words: list[str]) -> list[str]:
    """Move flags of callbacks that stand before the subcommand behind all other words."""
    if not words or not words[0].startswith(PREFIX):
        return words
    typed, rest = _split(words)
    return [*rest, *(f"{flag}={value}" for flag, value in typed)]


def callback_flags(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the flags that begin with `--callbacks.`, with their values."""
    return [(flag, value) for flag, value in _split(words)[0]]


def named_callbacks(listed: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Return the items of `trainer.callbacks` by the names their settings begin with on the command line.

    Args:
        listed: each item a mapping with a `class_path`, or the class's path alone; others are left out.

    Returns:
        `callbacks.CLASS` of each item; `callbacks.CLASS.N` where a class is listed more than once, N from 0.
    """
    items = [{"class_path": item} if isinstance(item, str) else item for item in listed]
    items = [item for item in items if isinstance(item, dict) and "class_path" in item]
    classes = [str(item["class_path"]).rpartition(".")[2] for item in items]
    named = {}
    for place, (name, item) in enumerate(zip(classes, items, strict=True)):
        number = f".{classes[:place].count(name)}" if classes.count(name) > 1 else ""
        named[f"callbacks.{name}{number}"] = item
    return named


def _split(words: Sequence[str]) -> tuple[list[_Typed], list[str]]:
    """Return the flags of callbacks with their values, and the other words."""
    typed, rest = [], []
    following = iter(words)
    for word in following:
        if not word.startswith(PREFIX):
            rest.append(word)
            continue
        flag, joined, value = word.partition("=")
        value = value if joined else next(following, "--")
        if value.startswith("--"):
            raise InputError(f"{flag} must be followed by a value; got none.")
        typed.append(_Typed(flag, value))
    return typed, rest


def _refused(flag: str, named: dict[str, dict[str, Any]]) -> str:
    """Return the sentence on a flag that fits no callback, several, or a setting that its class lacks."""
    head, _, setting = flag.removeprefix("--").rpartition(".")
    if f"{head}.0" in named:
        count = sum(name.rpartition(".")[0] == head for name in named)
        return f"{flag} must say which of {count} callbacks it means, as in --{head}.0.{setting}."
    classes = dict.fromkeys(name.split(".")[1] for name in named)
    known = [f"{name}.{key}" for name, item in named.items() for key in item.get("init_args") or {}]
    if flag.split(".")[1] in classes:
        return not_a_setting(flag, known)
    like = nearest(flag.removeprefix("--"), known)
    remedy = f"the nearest is --{like}" if like else f"the configs list {', '.join(classes) or 'none'}"
    return f"{flag} names a callback that no config lists; {remedy}."
