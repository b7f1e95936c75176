"""The commands beside LightningCLI's: each is one function with plain arguments, in a module of its own.

Imports everything below the command line; only `vqa_lightning.cli` and `vqa_lightning.commandline` import it.
"""
