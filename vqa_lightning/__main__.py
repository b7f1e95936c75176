"""`python -m vqa_lightning`."""

from vqa_lightning.cli import main

main()
