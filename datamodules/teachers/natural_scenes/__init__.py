"""Teachers that know how natural pictures are distributed: NIQE and BRISQUE, with their authors' models.

Imports the base of teachers and what lies below it.
"""
