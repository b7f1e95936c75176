from pathlib import Path

from torch import nn

from datamodules.files import file_hash, weights_hash


def test_a_folder_is_its_files_and_their_names(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "part").mkdir(parents=True)
        (tmp_path / folder / "part/weights").write_bytes(b"1234")
        (tmp_path / folder / "config").write_text("{}")
    one, two = tmp_path / "one", tmp_path / "two"
    first = file_hash(one)
    (two / ".cache").mkdir()
    (two / ".cache/lock").touch()
    assert file_hash(two) == first
    (two / "part/weights").rename(two / "weights")
    assert file_hash(two) != first
    (one / "config").write_text("{ }")
    assert file_hash(one) != first


def test_a_module_is_all_its_tensors_of_any_type() -> None:
    module = nn.BatchNorm1d(3)  # with a buffer that is a single integer
    first = weights_hash(module.state_dict())
    assert weights_hash(nn.BatchNorm1d(3).state_dict()) == first
    module.num_batches_tracked += 1
    assert weights_hash(module.state_dict()) != first
    assert weights_hash(nn.BatchNorm1d(3).bfloat16().state_dict()) != first
