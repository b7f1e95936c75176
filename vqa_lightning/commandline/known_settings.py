"""The settings that a command line knows: its parser's, and those of the classes in words and configs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from importlib import import_module
from inspect import get_annotations
from typing import Any, get_args, get_type_hints

from jsonargparse import ArgumentParser

from vqa_lightning.commandline.callback_settings import named_callbacks
from vqa_lightning.commandline.words import configs_of, values_of

_HOMES = (
    *("vqa_lightning", "datamodules", "callbacks"),
    *("lightning.pytorch.callbacks", "torch.optim", "torch.optim.lr_scheduler"),
)
"""Where a class that is named without its module is looked for."""


def known_settings(parser: ArgumentParser, words: Sequence[str]) -> set[str]:
    """Return the names of all settings, without dashes, as a user types them.

    Args:
        parser: of the command that the words are for.
        words: of the command line.
    """
    typed = {flag.removeprefix("--") for flag in parser._option_string_actions if flag.startswith("--")}
    # A setting within a class has no flag of its own; any other is typed as its flag is, dashes included.
    own = typed | {name for name, _ in parser.get_defaults().items() if "." in name}
    if "trainer.callbacks" not in own:
        return own
    given = {"model": "vqa_lightning.RankingModule", "data": "datamodules.RoundDataModule"}
    for config in configs_of(words):
        given.update(_classes("", config))
    given.update(("data", path) for path in values_of(words, "--data", "--data.class_path"))
    known = {name for name in own if not name.startswith("data.")}
    for prefix, path in given.items():
        if kind := _find(path):
            known.update(_settings_of(kind, prefix))
    return {name.replace(".init_args", "") for name in known if not name.endswith(".class_path")}


def _classes(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the settings of a config that are a class's, with the path of the class."""
    if prefix == "trainer.callbacks":
        listed = named_callbacks(value if isinstance(value, list) else [value] if value else [])
        yield from ((name, str(item["class_path"])) for name, item in listed.items())
    elif isinstance(value, Mapping):
        if "class_path" in value:
            yield prefix, str(value["class_path"])
        for name, inner in value.items():
            yield from _classes(prefix if name == "init_args" else f"{prefix}.{name}".lstrip("."), inner)


def _find(path: str) -> type | None:
    home, _, name = path.rpartition(".")
    for module in [home] if home else _HOMES:
        try:
            found = getattr(import_module(module), name, None)
        except Exception:  # a user's module may raise anything
            continue
        if isinstance(found, type):
            return found
    return None


def _settings_of(kind: type, prefix: str) -> Iterator[str]:
    """Yield the settings of a class, and those within its settings that are dataclasses."""
    try:
        hints = get_type_hints(kind.__init__)  # type: ignore[misc]
    except NameError:  # a type that is imported for type checkers alone
        hints = get_annotations(kind.__init__)  # type: ignore[misc]
    for name, hint in hints.items():
        if name != "return":
            yield f"{prefix}.{name}"
            for inner in (hint, *get_args(hint)):
                if isinstance(inner, type) and is_dataclass(inner):
                    yield from _settings_of(inner, f"{prefix}.{name}")
