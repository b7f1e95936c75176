"""The cost of a step and of a run, known before anything is loaded: operations, memory, hours.

Imports the LMM, its families and `datamodules`.
"""
