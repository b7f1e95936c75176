"""What the command line says of mistakes that are found far from it."""

import pytest
from torch.utils.data import DataLoader, Dataset

from datamodules.errors import InputError
from vqa_lightning.commandline.mistakes import sentence

SENTENCE = "A clip of 8 x 8 is too small for libx264: give at least 16 pixels a side."


class Small(Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise InputError(SENTENCE)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_workers_sentence_is_the_one_that_is_printed(workers: int) -> None:
    with pytest.raises(InputError) as raised:
        list(DataLoader(Small(), num_workers=workers))
    assert sentence(raised.value) == SENTENCE
