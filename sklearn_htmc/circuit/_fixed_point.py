"""Fixed-point formats: which integers a word may hold, and what real number they stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

INPUT_BITS = 31  # codes of ports stay within int32_t


def width(low: int, high: int) -> int:
    """Return the bits of the shortest word that holds ``low .. high``: two's complement if low < 0, else unsigned."""
    return max(high.bit_length(), (~low).bit_length() if low < 0 else 0) + (low < 0)


def roundest(first: Integers, last: Integers, near: Integers) -> Integers:
    """Return the integers in ``first .. last`` that end in most ones, the ones closest to some."""
    best = near
    for places in range(1, 32):
        period, ones = 1 << places, (1 << places) - 1
        lower = near - (near - ones) % period  # the last one up to near
        upper = lower + period
        closest = np.where((lower >= first) & ((near - lower <= upper - near) | (upper > last)), lower, upper)
        best = np.where((closest >= first) & (closest <= last), closest, best)
    return best


@dataclass(frozen=True)
class Format:
    """Words that stand for ``code * 2**exponent`` with an integer code between two bounds.

    Attributes
    ----------
    low, high : int
        Smallest and largest code, both included.
    exponent : int
        Binary exponent of the last place.

    Examples
    --------
    >>> celsius = Format(low=-80, high=200, exponent=-2)
    >>> celsius
    Format(low=-80, high=200, exponent=-2)
    >>> celsius.width, celsius.signed, celsius.step
    (9, True, 0.25)
    >>> celsius.encode([21.3, 1000.0])
    array([ 85, 200])
    >>> celsius.decode([85, 200])
    array([21.25, 50.  ])
    """

    low: int
    high: int
    exponent: int

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        if self.low > self.high:
            raise ValueError(f"low must not exceed high, got {self.low} and {self.high}.")

    def __str__(self) -> str:
        """Say range and step."""
        return f"{self.low} .. {self.high} times 2^{self.exponent}"

    @classmethod
    def covering(cls, smallest: float, largest: float, exponent: int) -> Format:
        """Return the format of the codes that the values between two numbers are rounded to.

        Where a code would not fit into 31 bits, the exponent is the least one with which it does.
        """
        exponent = max(exponent, math.frexp(max(abs(smallest), abs(largest)))[1] - INPUT_BITS)
        low, high = (round(math.ldexp(value, -exponent)) for value in (smallest, largest))
        if width(low, high) > INPUT_BITS:
            return cls.covering(smallest, largest, exponent + 1)
        return cls(low, high, exponent)

    @property
    def signed(self) -> bool:
        """Whether the word is in two's complement; else it is unsigned."""
        return self.low < 0

    @property
    def width(self) -> int:
        """Bits of the word."""
        return width(self.low, self.high)

    @property
    def step(self) -> float:
        """Value of the last place."""
        return float(2.0**self.exponent)

    @property
    def word(self) -> tuple[int, int]:
        """Smallest and largest integer that the bits of the word can hold."""
        half = 1 << (self.width - 1) if self.signed else 0
        return -half, (1 << self.width) - 1 - half

    def encode(self, values: Any) -> Integers:
        """Return the nearest codes (ties to even), saturated at the ends of the range.

        Raises
        ------
        ValueError
            If a value is NaN.
        """
        values = np.asarray(values, dtype=np.float64)
        if np.isnan(values).any():
            raise ValueError("a circuit has no code for NaN; impute missing values first.")
        with np.errstate(over="ignore"):
            scaled = np.ldexp(values, -self.exponent)
        codes: Integers = np.rint(np.clip(scaled, self.low, self.high)).astype(np.int64)
        return np.clip(codes, self.low, self.high)  # long bounds are no doubles

    def decode(self, codes: Any) -> Floats:
        """Return the values of codes."""
        return np.ldexp(np.asarray(codes, dtype=np.float64), self.exponent)
