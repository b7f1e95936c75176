"""A corpus by its statistics: nine metrics of every video, and the videos whose histograms match a target.

Imports teachers, whose measures are among the nine, and what lies below them.
"""
