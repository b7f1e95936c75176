"""Trained models that score videos: the student of a round, a checkpoint as a teacher, `Scorer`, `predict`.

Imports training and what lies below it.
"""
