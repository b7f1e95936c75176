"""Teachers that are networks: their weights come from a library, a repository or a file.

Imports what `datamodules.teachers` imports; the libraries behind them are imported when a teacher is made.
"""
