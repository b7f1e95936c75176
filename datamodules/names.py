r"""Names of files as text that any table, page or terminal can hold on one line, and back to the very file.

The system's names are bytes. What of them is UTF-8 stays as it is; a byte that is not, and each byte of a
control character or a line separator, is written `\xNN`, as is a backslash before what would read as such. No
locale matters: under ASCII the names are the same.
"""

import os
import re
from pathlib import Path

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that would end a line, or tell a terminal what to do."""

_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def name_of(file: str | os.PathLike[str]) -> str:
    r"""Return the name of a file as text; `file_of` finds the file again.

    Args:
        file: path as Python has it, where bytes that are not of the locale's encoding are surrogates.

    Example:
        >>> name_of("videos/été.mp4"), name_of(os.fsdecode(b"caf\xe9.mp4")), name_of("a\nb.mp4")
        ('videos/été.mp4', 'caf\\xe9.mp4', 'a\\x0ab.mp4')
    """
    path = os.fspath(file)
    if path.isascii() and path.isprintable() and "\\" not in path:  # nearly all, in tables of millions
        return path
    text = _ESCAPE.sub(rb"\\x5cx\1", _bytes(path)).decode("utf-8", "backslashreplace")
    return _CONTROL.sub(_escaped, text)


def file_of(name: str) -> Path:
    r"""Return the file that a name means.

    Args:
        name: as `name_of` gives it, or as a person has written it into a list.

    Example:
        >>> os.fsencode(file_of(r"caf\xe9.mp4"))
        b'caf\xe9.mp4'
    """
    if name.isascii() and "\\" not in name:
        return Path(name)
    return Path(os.fsdecode(_ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), _bytes(name))))


def written_name(name: str) -> str:
    r"""Return a name that a person has written as `name_of` writes it.

    Example:
        >>> written_name("a\nb.mp4"), written_name(r"\xc3\xa9.mp4")
        ('a\\x0ab.mp4', 'é.mp4')
    """
    return name if name.isprintable() and "\\" not in name else name_of(file_of(name))


def place_of(given: str) -> Path:
    """Return the file or folder that a word of the command line or of a config means, `~` a home.

    What is there under the very word wins; else the word is a name as in a list.
    """
    path = Path(os.fsdecode(_bytes(given))).expanduser()
    return path if os.path.lexists(path) else file_of(given).expanduser()


def is_url(place: str) -> bool:
    """Return whether a place is an address and not a local path.

    Example:
        >>> is_url("s3://bucket/a.mp4"), is_url("folder/a.mp4")
        (True, False)
    """
    return "://" in place


def was_url(path: str) -> bool:
    """Return whether a path looks like an address, perhaps one whose slashes a Path has joined.

    Example:
        >>> was_url(str(Path("https://example.com/a.mp4"))), was_url("C:/a.mp4")
        (True, False)
    """
    return _ADDRESS.match(path) is not None


def address_refused(address: str) -> str:
    """Return why an address is not read."""
    return f"{address} is an address, and only files are read: download it, or use --engine ray."


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _escaped(found: re.Match[str]) -> str:
    return "".join(map(r"\x{:02x}".format, found[0].encode()))
