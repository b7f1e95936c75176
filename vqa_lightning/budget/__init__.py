"""The cost of a training step, computed from shapes before anything is loaded: operations, memory, hours.

Imports the LMM and its families.
"""
