"""An extension of griffe: the examples of docstrings are shown as code.

Google's style has a section `Examples`; docstrings of one example here say `Example`, which griffe would show
as prose.
"""

from typing import Any

import griffe


class ExamplesAsCode(griffe.Extension):
    """Names the section of a single example as griffe knows it."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change an object's docstring before it is read."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")
