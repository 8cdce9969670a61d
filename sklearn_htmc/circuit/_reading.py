"""Strict reading of JSON: what is not as it must be is refused with its place."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from reprlib import repr as brief
from typing import Any

_DIGITS = 40  # of an integer; words have at most 19


def read(path: Path) -> Any:
    """Return the content of a JSON file without repeated keys, endless numbers and other constants than JSON has."""
    return json.loads(
        path.read_bytes().decode("utf-8"), parse_int=_parsed, parse_constant=_refused, object_pairs_hook=_unique
    )


def _parsed(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"the integer {text[:8]}... has {len(text)} digits, and words need at most 19")
    return int(text)


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"the key {brief(key)} appears twice")
        content[key] = value
    return content


def integer(value: Any, place: str) -> int:
    """Return an integer; a boolean is none."""
    if type(value) is not int:
        raise ValueError(f"{place} must be an integer, got {brief(value)}")
    return value


def number(value: Any, place: str) -> float:
    """Return a finite number that is not negative."""
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError(f"{place} must be a finite number of at least 0, got {brief(value)}")
    return float(value)


def real(value: Any, place: str) -> float:
    """Return a finite number."""
    if type(value) not in (int, float) or not -math.inf < value < math.inf:
        raise ValueError(f"{place} must be a finite number, got {brief(value)}")
    return float(value)


def items(value: Any, place: str, length: int | None = None) -> list[Any]:
    """Return a list, where a length is given of that length."""
    if type(value) is not list:
        raise ValueError(f"{place} must be a list, got {brief(value)}")
    if length is not None and len(value) != length:
        raise ValueError(f"{place} must have {length} entries, got {len(value)}")
    return value


def integers(value: Any, place: str, length: int | None = None) -> tuple[int, ...]:
    """Return a list of integers as a tuple."""
    entries = items(value, place, length)
    for index, entry in enumerate(entries):
        if type(entry) is not int:
            integer(entry, f"{place}[{index}]")
    return tuple(entries)


def keys(value: Any, place: str, expected: Iterable[str]) -> dict[str, Any]:
    """Return an object that has just the expected keys."""
    if type(value) is not dict:
        raise ValueError(f"{place} must be an object, got {brief(value)}")
    for key in expected:
        if key not in value:
            raise ValueError(f"{key!r} is missing in {place}")
    for key in value:
        if key not in expected:
            raise ValueError(f"{brief(key)} is not a known key of {place}")
    return value
