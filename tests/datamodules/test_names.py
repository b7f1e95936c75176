"""Names of files as text: one line for any bytes, and back to the very file, whatever the locale."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.names import file_of, name_of, place_of, written_name

BYTES = st.binary(min_size=1, max_size=24) | st.lists(
    st.sampled_from(
        [b"\\", b"x", b"5c", b"e9", b"\xe9", "é".encode(), b"\n", b"\x1b", "\u2028".encode(), b" "]
    ),
    min_size=1,
).map(b"".join)


@given(BYTES.map(lambda name: name.replace(b"\0", b"")).filter(lambda name: name.strip(b"./")))
def test_any_name_is_one_line_of_text_and_comes_back(name: bytes) -> None:
    path = Path(os.fsdecode(name))
    told = name_of(path)
    assert told.encode().decode() == told
    assert len(told.splitlines()) == 1
    assert file_of(told) == path
    assert written_name(told) == told


@pytest.mark.parametrize(
    "name", ["été.mp4", "a b.mp4", "-a.mp4", "a,'\".mp4", "😀\u200d😀.mp4", "\u200fש.mp4", r"C:\a"]
)
def test_what_is_text_stays_as_it_is(name: str) -> None:
    assert name_of(name) == name


def test_two_names_never_become_one() -> None:
    assert name_of(os.fsdecode(b"\xe9")) == r"\xe9"
    assert name_of(r"\xe9") == r"\x5cxe9"


def test_a_word_means_the_file_of_that_name_before_the_file_that_it_spells(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xe9")).touch()
    assert os.fsencode(place_of(rf"{tmp_path}/\xe9").name) == b"\xe9"
    (tmp_path / r"\xe9").touch()
    assert place_of(rf"{tmp_path}/\xe9").name == r"\xe9"


def test_names_are_the_same_where_the_locale_knows_ascii_alone(tmp_path: Path) -> None:
    for name in (b"caf\xe9", "été".encode()):
        (tmp_path / os.fsdecode(name)).touch()
    code = """
import os, sys
from datamodules.names import file_of, name_of
assert sys.getfilesystemencoding() == "ascii"
names = sorted(map(name_of, os.listdir(sys.argv[1])))
assert names == [r"caf\\xe9", "\\u00e9t\\u00e9"], names
assert all((os.path.exists(os.path.join(sys.argv[1], file_of(name)))) for name in names)
"""
    plain = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    root = Path(__file__).resolve().parents[2]
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, **plain}, cwd=root, check=True
    )
