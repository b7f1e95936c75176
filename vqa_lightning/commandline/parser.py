"""The parser of all commands: a mistake in the configuration ends in one sentence instead of the whole usage.

jsonargparse complains in nested lines, one level for each class and each type that it tried. The sentence
takes the setting's full name and the one complaint that counts from these lines.
"""

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

from datamodules.errors import InputError
from vqa_lightning.commandline.callback_settings import callback_flags
from vqa_lightning.commandline.known_settings import known_settings
from vqa_lightning.commandline.nearest import nearest, not_a_setting
from vqa_lightning.commandline.words import broken_config

_UNKNOWN = re.compile(
    r"unrecognized arguments: (?P<dashes>-*)(?P<word>[^\s=]+)"
    r"|(?:Group '(?P<group>[^']*)'|Subcommand '[^']*') does not accept option '(?P<inner>[^']*)'"
    r"|Option '(?P<option>[^']*)' is not accepted"
)

_WITHOUT_VALUE = re.compile(r"argument (\S+): expected one argument")

_EXPECTED = re.compile(
    r"Expected an? (?:<class '(?P<type>[\w.]+)'>|typing\.Literal\[(?P<options>[^\]]*)\]"
    r"|dot import path string: (?P<path>.*))"
)

_NO_GROUP = re.compile(r"^[ -]*Unable to load config '(.*)'")

_BROKEN = re.compile(r"^(?:Problems parsing config|Unexpected config): ")

_FRAME = re.compile(
    r"^[ -]*(?:Does not validate|Subtypes:|Errors:|Given value|Expected a <class 'NoneType'>)"
)

_KEY = re.compile(r"Parser key \"([^\"]*)\":")

_GIVEN = re.compile(r"(?:Got|Given) value: (?:NestedArg\(key='[^']*', val='(?P<inner>.*)'\)|(?P<whole>.*))")

_MAPPING = "a mapping such as {a: 1}"

_TYPES = {
    "NoneType": "null",
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "list": "a list such as [a, b]",
    "tuple": "a list such as [a, b]",
    "dict": _MAPPING,
}


class ParserError(InputError):
    """What jsonargparse complains of, in as many lines as it takes.

    Args:
        message: of jsonargparse.
        parser: that did not accept something.
    """

    def __init__(self, message: str, parser: ArgumentParser) -> None:
        super().__init__(message)
        self.parser = parser

    def sentence(self, words: Sequence[str]) -> str:
        """Return what is wrong in one sentence.

        Args:
            words: of the command line.
        """
        lines = [line for line in str(self).splitlines() if line.strip()]
        if _BROKEN.search(lines[0]) and (broken := broken_config(words)):
            return f"--config must be a YAML mapping; got {broken}."
        for line in lines:
            if unknown := _UNKNOWN.search(line):
                return self._unknown(unknown, _keys_above(lines, line), words)
            if alone := _WITHOUT_VALUE.search(line):
                return f"{alone[1]} must be followed by a value; got none."
            if scalar := _NO_GROUP.search(line):
                return f"{_flag(*_keys_above(lines, line))} must be {_MAPPING}; got {scalar[1]}."
        found = [(line, match) for line in lines if (match := _EXPECTED.search(line))]
        # Anything that was tried says more than null, which is tried last.
        found = [one for one in found if one[1]["type"] != "NoneType"]
        if not found:
            telling = [line for line in lines if not _FRAME.search(line)] or lines
            return f"{max(telling, key=_depth).lstrip(' -').rstrip('.:')}: see --help."
        line, match = max(found, key=lambda one: _depth(one[0]))
        keys, below = _keys_above(lines, line), lines[lines.index(line) :]
        given = next((value["inner"] or value["whole"] for one in below if (value := _GIVEN.search(one))), "")
        flag = _typed_flag(_flag(*keys), given, words)
        if match["path"]:
            return f"{flag} must be the import path of a class; got {match['path']}."
        level = [_EXPECTED.search(one) for one in below if _depth(one) == _depth(line)]
        types = dict.fromkeys(_expected(one) for one in level if one and not one["path"])
        return f"{flag} must be {' or '.join(types)}; got {given or 'something else'}."

    def _unknown(self, unknown: re.Match[str], keys: Sequence[str], words: Sequence[str]) -> str:
        """Return the sentence on a word or a setting that was not accepted, below the settings around it."""
        known = known_settings(self.parser, words)
        word = unknown["word"]
        if word and not keys and unknown["dashes"] == "-":
            return not_a_setting(f"-{word}", known)
        if word and not keys and not unknown["dashes"]:
            if word.endswith((".yaml", ".yml")):
                return f"{word} must follow a flag; a config is given by --config {word}."
            if nearest(word, known) is None:
                return f"{word} must follow a flag; --help lists the settings."
        return not_a_setting(
            _flag(*keys, *filter(None, unknown.group("word", "group", "inner", "option"))), known
        )


class Parser(LightningArgumentParser):
    """LightningCLI's parser, with `ParserError` in place of the usage, and no option by half its name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Words are read before they are parsed (`vqa_lightning.commandline.words`), by whole names alone.
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the complaint as it is: a parser further out may repeat it as a part of its own."""
        raise ParserError(message, self) from ex


def _flag(*parts: str) -> str:
    return f"--{'.'.join(parts)}".replace(".init_args", "")


def _typed_flag(flag: str, given: str, words: Sequence[str]) -> str:
    """Return the flag `--callbacks.CLASS.SETTING` that was typed, where the whole list is complained of."""
    setting = flag.removeprefix("--trainer.callbacks")
    if setting in ("", flag):
        return flag
    typed = [name for name, value in callback_flags(words) if name.endswith(setting) and value == given]
    return typed[0] if typed else flag


def _expected(one: re.Match[str]) -> str:
    """Return in words what jsonargparse expected."""
    if one["options"] is None:
        return _TYPES.get(one["type"], one["type"])
    options = [option.strip(" '\"") for option in one["options"].split(",")]
    return f"one of {', '.join(options)}" if len(options) > 1 else options[0]


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" -"))


def _keys_above(lines: Sequence[str], line: str) -> list[str]:
    """Return the settings that a complaint is about, from the outermost to the innermost."""
    keys: list[str] = []
    depth = _depth(line) + 1
    for above in reversed(lines[: lines.index(line) + 1]):
        if _depth(above) < depth and (key := _KEY.search(above)):
            keys.insert(0, key[1])
            depth = _depth(above)
    return keys
