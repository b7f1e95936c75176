import os
from pathlib import Path

import pytest

from datamodules.errors import InputError
from datamodules.files import remove_unfinished, written_whole


class TestWrittenWhole:
    def test_takes_the_place_of_the_file_before(self, tmp_path: Path) -> None:
        file = tmp_path / "new" / "rounds.csv"
        for text in ("one", "two"):
            with written_whole(file) as hidden:
                hidden.write_text(text)
                assert not file.exists() or file.read_text() == "one"
        assert file.read_text() == "two"
        assert os.listdir(file.parent) == ["rounds.csv"]

    def test_leaves_the_file_before_when_anything_goes_wrong(self, tmp_path: Path) -> None:
        file = tmp_path / "rounds.csv"
        file.write_text("one")

        def interrupted() -> None:
            with written_whole(file) as hidden:
                hidden.write_text("tw")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert file.read_text() == "one"
        assert os.listdir(tmp_path) == ["rounds.csv"]

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, the device that has no room")
    def test_a_full_disk_is_one_sentence_that_names_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "rounds.csv"
        monkeypatch.setattr("secrets.token_hex", lambda _: "00")
        (tmp_path / ".rounds.csv.00.tmp").symlink_to("/dev/full")
        with (
            pytest.raises(
                InputError, match=r"rounds.csv cannot be written \(No space left on device\): make"
            ),
            written_whole(file) as hidden,
        ):
            hidden.write_text("one")
        assert os.listdir(tmp_path) == []


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    kept = {tmp_path / "labels" / "part-0.parquet", tmp_path / ".notes.tmp"}
    left = {tmp_path / "labels" / ".part-1.parquet.77.tmp", tmp_path / ".last.ckpt.tmp"}
    (tmp_path / "labels").mkdir()
    for path in kept | left:
        path.write_bytes(b"")
    remove_unfinished(tmp_path, ["*.ckpt", "labels/part-*"])
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == kept
