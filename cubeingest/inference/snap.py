"""The rational that a float stands for: 1/4000 from 0.00025 and from 0.00024999999999; pure."""

from __future__ import annotations

from fractions import Fraction

from cubeingest.steps import to_fraction

NOISE = (Fraction(1, 10**10), Fraction(1, 10**9), Fraction(1, 10**8), Fraction(1, 10**7))
"""How far, relatively, a pixel size may lie from the rational that was meant: rounding, then decimals cut short (0.0002777778)."""

DRIFT_PX = Fraction(1, 1000)
"""What snapping may move the far edge of a tile: a tenth of what a tile may be off."""

CHANCE = Fraction(1, 1000)
"""How likely it may be that a rational so simple lies so near by chance. Of rationals p/q, about N noise lie within ``noise`` of
any number with p q below N."""

EXACT = 10**12
"""Numerator times denominator of a rational that somebody may have meant, and none that arithmetic with decimals has left."""

WHOLE_PX = Fraction(1, 10**6)
"""How far from a whole number, in pixels, an edge is that number."""

MOST_DECIMALS = 12
"""Characters of a decimal that is easier to read than a fraction."""


def snap_resolution(size: float, pixels: int) -> Fraction:
    """The pixel size that was meant by ``size`` in a tile of ``pixels`` along its longer side: a simple rational, else ``size`` itself."""
    exact = Fraction(size)
    for noise in NOISE:
        if noise * pixels > DRIFT_PX:
            break
        found = simplest_between(exact * (1 - noise), exact * (1 + noise))
        if found.numerator * found.denominator * noise <= CHANCE:
            return found
    return to_fraction(size)


def snap_edge(edge: Fraction, resolution: Fraction) -> Fraction:
    """The coordinate that was meant by an edge: on whole or half pixels from 0 (where the pixel size is a simple rational), a whole
    number, else the decimal itself.
    """
    if abs(resolution.numerator * resolution.denominator) <= CHANCE / NOISE[0]:
        halves = round(edge / resolution * 2)
        if abs(edge - halves * resolution / 2) <= DRIFT_PX * abs(resolution):
            return halves * resolution / 2
    if abs(edge - round(edge)) <= WHOLE_PX * abs(resolution):
        return Fraction(round(edge))
    return to_fraction(float(edge))


def simplest_between(low: Fraction, high: Fraction) -> Fraction:
    """The rational of smallest denominator in [low, high], both above 0: by continued fractions."""
    whole = -(-low.numerator // low.denominator)
    if whole <= high:
        return Fraction(whole)
    floor = whole - 1
    return floor + 1 / simplest_between(1 / (high - floor), 1 / (low - floor))


def settle(edge: Fraction) -> Fraction:
    """An edge that is many whole pixels from a known one: itself, or the nearest float where that is all the exactness there is."""
    return edge if abs(edge.numerator * edge.denominator) <= EXACT else to_fraction(float(edge))


def number(value: Fraction) -> int | float | str:
    """An exact number as a spec holds it: whole, a short decimal, a fraction such as ``1/4000``, else the decimal that it is."""
    if value.denominator == 1:
        return int(value)
    decimal = float(value)
    is_decimal = to_fraction(decimal) == value
    text = repr(decimal)
    short = is_decimal and len(text) <= MOST_DECIMALS and "e" not in text
    if abs(value.numerator) == 1 or (not short and value.denominator < 10**7) or not is_decimal:
        return str(value)
    return decimal
