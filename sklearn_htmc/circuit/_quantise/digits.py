"""Few-digit numbers: sums of signed powers of two."""

from __future__ import annotations

import math

_MOST = 12
_EXACT = 1e-12  # relative error of a number that needs no more digits

Digits = tuple[tuple[int, int], ...]  # (sign, exponent), the largest first


def nearest_power(value: float) -> tuple[int, int]:
    """Return sign and exponent of the signed power of two that is nearest to a number other than zero."""
    mantissa, exponent = math.frexp(abs(value))  # mantissa in [1/2, 1)
    return (1 if value > 0 else -1), exponent - (mantissa < 0.75)


def rounded(value: float, squared_error_cost: float, digit_cost: float) -> tuple[float, Digits]:
    """Return the few-digit number with the least ``cost * (value - number)^2 + digit_cost * digits``, and its digits.

    Taking the nearest power of two of what is left gives the canonical signed-digit form from the top; every number
    of digits is tried.

    Examples
    --------
    >>> [rounded(0.7, 1.0, cost)[0] for cost in (1.0, 0.03, 1e-3, 1e-5)]
    [0.0, 0.75, 0.6875, 0.703125]
    """
    digits: list[tuple[int, int]] = []
    left, best, kept = value, squared_error_cost * value * value, 0
    while digit_cost * (len(digits) + 1) < best and len(digits) < _MOST:
        digits.append(nearest_power(left))
        left -= math.ldexp(*digits[-1])
        cost = squared_error_cost * left * left + digit_cost * len(digits)
        if cost < best:
            best, kept = cost, len(digits)
        if abs(left) < _EXACT * abs(value):
            break
    return math.fsum(math.ldexp(*digit) for digit in digits[:kept]), tuple(digits[:kept])
