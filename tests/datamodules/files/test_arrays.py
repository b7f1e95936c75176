"""Arrays of files that are whole, damaged, or far larger than they look."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from datamodules.files.arrays import LARGEST, read_arrays


def test_vectors_and_matrices_come_from_both_kinds(tmp_path: Path) -> None:
    arrays = {"mean": np.arange(3.0), "covariance": np.eye(3)}
    savemat(tmp_path / "a.mat", arrays, do_compression=True)
    np.savez(tmp_path / "a.npz", **arrays)
    for name in ("a.mat", "a.npz"):
        found = read_arrays(tmp_path / name)
        assert found.keys() == arrays.keys()
        for key, value in arrays.items():
            np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize(("name", "times"), [("a.mat", 30), ("a.npz", 300)])  # .mat: a child each
def test_any_damage_is_a_value_error(name: str, times: int, tmp_path: Path) -> None:
    file = tmp_path / name
    arrays = {"names": np.array(["a", "bc"], dtype=object), "mos": np.arange(40.0)}
    if name == "a.mat":
        savemat(file, arrays, do_compression=True)
    else:
        np.savez_compressed(file, mos=arrays["mos"])
    whole, refused = file.read_bytes(), 0
    generator = np.random.default_rng(0)
    for _ in range(times):
        damaged = bytearray(whole)
        for place in generator.integers(len(damaged), size=3):
            damaged[place] = generator.integers(256)
        file.write_bytes(damaged[: generator.integers(1, len(damaged) + 1)])
        try:
            read_arrays(file)
        except (OSError, ValueError):
            refused += 1
    assert refused > 0.6 * times


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("mean.npy", "w") as member,
    ):
        for _ in range((LARGEST >> 20) + 1):
            member.write(bytes(1 << 20))
    assert (tmp_path / "a.npz").stat().st_size < 1 << 20
    with pytest.raises(ValueError, match="more than 256 MB"):
        read_arrays(tmp_path / "a.npz")


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", names=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_arrays(tmp_path / "a.npz")
