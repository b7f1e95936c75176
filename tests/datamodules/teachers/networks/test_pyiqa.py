from importlib.util import find_spec

import pytest

from datamodules.errors import InputError
from datamodules.teachers.networks.pyiqa import PyIQA


@pytest.mark.skipif(find_spec("pyiqa") is not None, reason="pyiqa is installed")
def test_without_the_package_the_extra_and_its_licence_are_named() -> None:
    with pytest.raises(
        InputError, match=r"install vqa-lightning\[pyiqa\], whose licence .* noncommercial use"
    ):
        PyIQA("musiq")
