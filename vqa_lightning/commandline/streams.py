"""Standard output and standard error that no sign, no closed pipe and no full disk can make a command fail.

What a command says is not what it does: work that is done stays done, whoever listens.
"""

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

_ERRORS = "vqa_lightning.shown"

_PLAIN = {"•": "*", "±": "+-", "…": "...", "\u2013": "-", "—": "-", "→": "->", "\u00d7": "x", "µ": "u"}


@contextmanager
def steady_streams() -> Iterator[None]:
    """Put streams that cannot fail in the place of the standard ones."""
    for number in range(3):  # a file that is opened later must not take the number of a closed stream
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Steady(stream)) for stream in before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # here, for what fails at Python's own end costs its exit code
        sys.stdout, sys.stderr = before


class _Steady:
    """A text stream that shows another sign where it cannot show one, and is silent where nobody listens.

    Args:
        stream: a standard stream; None: it was closed before Python began.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = open(os.devnull, "w", encoding="utf-8") if stream is None else stream  # noqa: SIM115
        if isinstance(self._stream, io.TextIOWrapper):
            self._stream.reconfigure(errors=_ERRORS)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write as far as anybody reads."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._let_go(error)
            return len(text)

    def writelines(self, lines: Any) -> None:
        """Write as far as anybody reads."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush as far as anybody reads."""
        try:
            self._stream.flush()
        except OSError as error:
            self._let_go(error)

    def _let_go(self, error: OSError) -> None:
        """Lead the stream nowhere from now on, whoever else holds it."""
        number = self._stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
        with suppress(OSError):
            self._stream.flush()
        if error.errno != errno.EPIPE and number == 1:
            print(f"note: standard output ends here ({error.strerror}); the work goes on.", file=sys.stderr)


def _shown(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what is written in the place of signs that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = b"".join(_plain(sign) for sign in error.object[error.start : error.end])
    return shown, error.end


def _plain(sign: str) -> bytes:
    code = ord(sign)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name, which is no text: as it is
        return bytes([code - 0xDC00])
    if 0x2500 <= code <= 0x257F:  # lines
        return b"-" if sign in "─━╌╍═╸╺" else b"|" if sign in "│┃║" else b"+"
    if 0x2580 <= code <= 0x259F:  # blocks
        return b"#"
    if 0x2800 <= code <= 0x28FF:  # what turns while one waits
        return b"."
    return _PLAIN.get(sign, "").encode() or sign.encode("ascii", "backslashreplace")


codecs.register_error(_ERRORS, _shown)
