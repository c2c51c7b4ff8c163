"""Extension of Griffe: an `Example:` of a docstring is shown as code, as an `Examples:` is."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class ExampleSections(Extension):
    """Renames the section, since Griffe takes `Example:` for a plain remark."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rename the section in the docstring of a class, function, attribute or module."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
