"""Fixed-point formats: which integers a word may hold, and what real number they stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Real
from operator import index
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


def _integer(value: Any, name: str) -> int:
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    return index(value)


def _real(value: Any, name: str) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a real number, got {value!r}.")
    return float(value)


@dataclass(frozen=True, repr=False)
class Format:
    """Words that stand for ``offset + scale * 2**exponent * code`` with an integer code between two bounds.

    The formats that `compile_circuit` chooses have ``scale=1`` and ``offset=0``. Others describe what is there: the
    codes of a converter, say, where `scale` and `offset` say what a sensor measures in volts or degrees.

    Attributes
    ----------
    low, high : int
        Smallest and largest code, both included.
    exponent : int
        Binary exponent of the last place.
    scale : float, default=1.0
        Positive factor beside the power of two.
    offset : float, default=0.0
        Value of code 0.

    Raises
    ------
    TypeError
        If low, high or exponent is no integer, or scale or offset no real number.
    ValueError
        If low exceeds high, scale is not positive and finite, or offset is not finite.

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
    >>> Format.of_bits(10, scale=0.005, offset=-0.5)  # a converter of 10 bits, 5 mV per code
    Format(low=0, high=1023, exponent=0, scale=0.005, offset=-0.5)
    """

    low: int
    high: int
    exponent: int
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no format."""
        for name in ("low", "high", "exponent"):
            value = getattr(self, name)
            if type(value) is not int:
                object.__setattr__(self, name, _integer(value, name))
        for name in ("scale", "offset"):
            object.__setattr__(self, name, _real(getattr(self, name), name))
        if self.low > self.high:
            raise ValueError(f"low must not exceed high, got {self.low} and {self.high}.")
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be positive and finite, got {self.scale!r}; where a sensor falls, negate it.")
        if not math.isfinite(self.offset):
            raise ValueError(f"offset must be finite, got {self.offset!r}.")

    def __repr__(self) -> str:
        """Say the numbers; scale and offset where there are any."""
        more = "" if self.is_plain else f", scale={self.scale!r}, offset={self.offset!r}"
        return f"Format(low={self.low}, high={self.high}, exponent={self.exponent}{more})"

    def __str__(self) -> str:
        """Say range and unit."""
        return f"{self.low} .. {self.high} times {self.unit}"

    @property
    def unit(self) -> str:
        """Text of what a code is multiplied by, and what is added."""
        factor = f"2^{self.exponent}" if self.scale == 1 else f"{self.step!r}"
        sign = "minus" if self.offset < 0 else "plus"
        return factor + (f" {sign} {abs(self.offset)!r}" if self.offset else "")

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

    @classmethod
    def of_bits(
        cls, bits: int, exponent: int = 0, *, signed: bool = False, scale: float = 1.0, offset: float = 0.0
    ) -> Format:
        """Return the format of all codes of some bits.

        Parameters
        ----------
        bits : int
            Bits of the word, at least one.
        exponent : int, default=0
            Binary exponent of the last place.
        signed : bool, default=False
            Whether codes are in two's complement.
        scale, offset : float
            As of the class.

        Examples
        --------
        >>> Format.of_bits(8, signed=True)
        Format(low=-128, high=127, exponent=0)
        """
        if _integer(bits, "bits") < 1:
            raise ValueError(f"bits must be a positive integer, got {bits!r}.")
        half = 1 << (bits - 1) if signed else 0
        return cls(-half, (1 << bits) - 1 - half, exponent, scale, offset)

    @classmethod
    def spanning(cls, bits: int, smallest: float, largest: float) -> Format:
        """Return the unsigned format of some bits whose ends stand for two numbers.

        Parameters
        ----------
        bits : int
            Bits of the word, at least one.
        smallest, largest : float
            What code 0 and the largest code stand for.

        Raises
        ------
        ValueError
            If bits is not positive, smallest is not less than largest, or one of them is not finite.

        Examples
        --------
        >>> Format.spanning(8, 0.0, 63.75).step
        0.25
        """
        form = cls.of_bits(bits)
        smallest, largest = _real(smallest, "smallest"), _real(largest, "largest")
        if not -math.inf < smallest < largest < math.inf:
            raise ValueError(f"smallest must be less than largest, both finite, got {smallest!r} and {largest!r}.")
        # The difference of large numbers could overflow.
        return replace(form, scale=largest / form.high - smallest / form.high, offset=smallest)

    @property
    def is_plain(self) -> bool:
        """Whether codes are multiplied by a power of two alone."""
        return self.scale == 1 and not self.offset

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
        return math.ldexp(self.scale, self.exponent)

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
            centred = values if self.is_plain else (values - self.offset) / self.scale
            scaled = np.ldexp(centred, -self.exponent)
        codes: Integers = np.rint(np.clip(scaled, self.low, self.high)).astype(np.int64)
        return np.clip(codes, self.low, self.high)  # long bounds are no doubles

    def decode(self, codes: Any) -> Floats:
        """Return the values of codes."""
        values: Floats = np.ldexp(np.asarray(codes, dtype=np.float64) * self.scale, self.exponent)
        return values + self.offset if self.offset else values
