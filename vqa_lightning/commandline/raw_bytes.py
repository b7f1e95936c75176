"""Words with bytes that are not UTF-8, on their way through YAML, which knows none.

Python keeps such bytes of the command line as surrogates. For YAML they are signs of a private plane that
nobody writes; a file of settings gets them as `datamodules.names` writes them.
"""

from collections.abc import Callable
from typing import Any

import yaml  # type: ignore[import-untyped]
from jsonargparse import get_loader, set_dumper, set_loader

_HIDDEN = {0xDC00 + byte: 0x10FF00 + byte for byte in range(0x80, 0x100)}

_SHOWN = {sign: surrogate for surrogate, sign in _HIDDEN.items()}

_load = get_loader("yaml")


def read(text: str) -> Any:
    """Read YAML as jsonargparse does."""
    hidden = text.translate(_HIDDEN)
    found = _load(hidden)
    return found if hidden == text else _mapped(found, lambda cell: cell.translate(_SHOWN))


def write(data: Any) -> str:
    """Write YAML as jsonargparse does."""
    told: str = yaml.safe_dump(
        _mapped(data, _as_name), default_flow_style=False, allow_unicode=True, sort_keys=False
    )
    return told


def _as_name(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Return a value with all its texts changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_mapped(key, change): _mapped(cell, change) for key, cell in value.items()}
    return [_mapped(cell, change) for cell in value] if isinstance(value, list) else value


def let_raw_bytes_pass() -> None:
    """Have jsonargparse read and write with these two."""
    set_loader("yaml", read, (yaml.YAMLError,))
    set_dumper("yaml", write)
