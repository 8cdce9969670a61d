"""Names of modules and functions."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any


def check_name(name: Any, language: str, pattern: str, reserved: Container[str]) -> None:
    """Raise ValueError unless a name is an identifier of a language and none of its reserved words."""
    if not isinstance(name, str) or not re.fullmatch(pattern, name):
        raise ValueError(f"name must be a {language} identifier, got {name!r}; take letters, digits and underscores.")
    if name in reserved:
        raise ValueError(f"name must not be a reserved word of {language}, got {name!r}; take e.g. '{name}_0'.")
