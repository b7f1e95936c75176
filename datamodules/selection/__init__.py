"""A corpus chosen by its statistics, so that nine histograms match a target, or by its scores.

Imports teachers, whose measures are among the nine, and what lies below them.
"""
