"""The parser of all commands: a mistake in the configuration ends in one sentence instead of the whole usage.

jsonargparse complains in nested lines, one level for each class and each type that it tried. The sentence
takes the setting's full name and the one complaint that counts from these lines.
"""

import re
from collections.abc import Sequence
from typing import NoReturn

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

from datamodules.errors import InputError
from vqa_lightning.commandline.known_settings import known_settings
from vqa_lightning.commandline.nearest import not_a_setting

_UNKNOWN = re.compile(
    r"unrecognized arguments: (?:--)?(?P<word>[^\s=]+)"
    r"|(?:Group '(?P<group>[^']*)'|Subcommand '[^']*') does not accept option '(?P<inner>[^']*)'"
    r"|Option '(?P<option>[^']*)' is not accepted"
)

_WITHOUT_VALUE = re.compile(r"argument (\S+): expected one argument")

_EXPECTED = re.compile(r"Expected an? (?:<class '(?P<type>[\w.]+)'>|dot import path string: (?P<path>.*))")

_KEY = re.compile(r"Parser key \"([^\"]*)\":")

_GIVEN = re.compile(r"(?:Got|Given) value: (.*)")

_TYPES = {
    "NoneType": "null",
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
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
        for line in lines:
            if unknown := _UNKNOWN.search(line):
                keys = _keys_above(lines, line) if unknown["option"] else []
                return not_a_setting(
                    _flag(*keys, *filter(None, unknown.groups())), known_settings(self.parser, words)
                )
            if alone := _WITHOUT_VALUE.search(line):
                return f"{alone[1]} must be followed by a value; got none."
        found = [(line, match) for line in lines if (match := _EXPECTED.search(line))]
        # Any class that was tried says more than null, which is tried last.
        found = [one for one in found if one[1]["type"] != "NoneType"] or found
        if not found:
            return f"{max(lines, key=_depth).lstrip(' -').rstrip('.:')}: see --help."
        line, match = max(found, key=lambda one: _depth(one[0]))
        flag, below = _flag(*_keys_above(lines, line)), lines[lines.index(line) :]
        if match["path"]:
            return f"{flag} must be the import path of a class; got {match['path']}."
        level = [_EXPECTED.search(one) for one in below if _depth(one) == _depth(line)]
        types = dict.fromkeys(_TYPES.get(one["type"], one["type"]) for one in level if one and one["type"])
        given = next(value[1] for one in below if (value := _GIVEN.search(one)))
        return f"{flag} must be {' or '.join(types)}; got {given}."


class Parser(LightningArgumentParser):
    """LightningCLI's parser, with `ParserError` in place of the usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the complaint as it is: a parser further out may repeat it as a part of its own."""
        raise ParserError(message, self) from ex


def _flag(*parts: str) -> str:
    return f"--{'.'.join(parts)}".replace(".init_args", "")


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
