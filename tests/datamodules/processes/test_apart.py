"""What must not end the command: files that end the process which reads them."""

import os
import signal
import subprocess
import sys
from base64 import b85decode
from io import BytesIO
from pathlib import Path
from zlib import decompress

import numpy as np
import pytest
from scipy.io import savemat

from datamodules.corpus import build_corpus
from datamodules.errors import InputError
from datamodules.opinions.mos import read_opinions
from datamodules.processes import apart
from datamodules.processes.apart import FORKS

pytestmark = pytest.mark.skipif(not FORKS, reason="a process cannot be copied here")

ABORTS = (
    b"c-muN7zp6bz+lQSL;=w4f}?I95VxBRVYizPS+_efSj-&6?qdWI4LIEHz#s&qco`TDf>eG$mix~z3a|xP0D~|C(*_|1MqrRVWca|q1R~~j"
    b"D_<N98yaRY<6)MDL{QR@G>8!0>l-%QVh#Y7M;B-"
)
"""A transport stream that was found by fuzzing and made smaller: FFmpeg's demuxer aborts on it."""


def double(number: int) -> int:
    if number == 13:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number < 0:
        raise InputError(f"{number} is below 0")
    return 2 * number


def test_a_death_is_told_of_what_was_done_and_the_next_is_done() -> None:
    with apart(double) as doubled:
        assert doubled(1) == 2
        with pytest.raises(ChildProcessError, match="ends the process"):
            doubled(13)
        assert doubled(2) == 4
        with pytest.raises(InputError, match="-1 is below 0"):
            doubled(-1)


def test_work_need_not_be_importable() -> None:
    seen = 3
    with apart(lambda number: number + seen) as added:
        assert added(1) == 4


LEFT = """
import threading, time
from datamodules.processes import END, apart

with END.heard("again"):
    with apart(time.sleep) as wait:
        wait(0)
        threading.Thread(target=wait, args=(1,)).start()
        time.sleep(0.3)
"""


def test_children_do_not_outlive_who_leaves_them_at_work() -> None:
    done = subprocess.run([sys.executable, "-c", LEFT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_video_on_which_the_decoder_aborts_is_a_row_with_its_error(
    clips_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "aborts.ts").write_bytes(decompress(b85decode(ABORTS)))
    for name in ("vsfa_test.mp4", "carphone_pristine.mp4"):
        (tmp_path / name).symlink_to(clips_folder / name)
    rows = build_corpus(tmp_path, cache=tmp_path / "cache").to_pylist()
    assert [row["status"] for row in rows] == ["error", "ok", "ok"]
    assert "aborts.ts cannot be" in rows[0]["error"]


@pytest.mark.filterwarnings("ignore::scipy.io.matlab.MatReadWarning")
@pytest.mark.parametrize("place", range(128, 192, 8))
def test_a_damaged_file_of_matlab_is_one_sentence(place: int, tmp_path: Path) -> None:
    whole = BytesIO()
    savemat(whole, {"mos": np.array([1.0])})
    data = bytearray(whole.getvalue())
    data[place] ^= data[place] or 255  # 176 becomes 0: scipy's reader then leaves its memory
    (tmp_path / "mos.mat").write_bytes(data)
    with pytest.raises(InputError, match=r"mos\.mat"):
        read_opinions(tmp_path / "mos.mat")
