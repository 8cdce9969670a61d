"""Attributes that only some fits have."""

from __future__ import annotations

from typing import Any


class Absent:
    """An attribute that only some fits have: where an instance has none, the error says when there is one."""

    def __init__(self, when: str) -> None:
        self.when = when

    def __get__(self, instance: Any, owner: type) -> Any:
        """Raise AttributeError; what an instance holds comes before this descriptor."""
        if instance is None:
            return self
        raise AttributeError(f"{owner.__name__} has no {self.name} {self.when}.")

    def __set_name__(self, owner: type, name: str) -> None:
        """Take the name of the attribute."""
        self.name = name
