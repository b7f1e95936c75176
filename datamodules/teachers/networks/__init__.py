"""Teachers that are networks: their weights come from a library, a repository or a file.

Imports what `datamodules.teachers` imports; the libraries behind the networks are imported with each teacher.
"""
