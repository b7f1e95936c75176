"""Hard pairs, of which a later round learns most: pairs that the student got wrong, and pairs in dispute.

Imports labels, what lies below them, and the pair table.
"""
