"""How four pixels become one, against plain loops and masked arrays."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from cubeingest.overviews.halving import halve, method_of
from cubeingest.spec import Variable

DTYPES = ("bool", "uint8", "int8", "int16", "uint16", "int32", "int64", "float32", "float64")


def variable(dtype: str, fill: Any, attrs: dict[str, Any] | None = None, overviews: str | None = None) -> Variable:
    return Variable("v", dtype, fill, (), ("y", "x"), (8, 8), None, None, attrs or {}, None, overviews)


def slow(pixels: np.ndarray, fill: Any, method: str) -> np.ndarray:
    """The same by one Python loop over blocks, each a list of its valid values from top left to bottom right.

    Of integers whose mean rounds to the fill value: the one next to it on the mean's side.
    """
    rows, columns = pixels.shape
    out = np.empty((-(-rows // 2), -(-columns // 2)), pixels.dtype)
    for y, x in np.ndindex(out.shape):
        block = pixels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist()
        valid = [p for p in block if (p == p and p != fill) or pixels.dtype == bool]
        if method == "nearest":
            out[y, x] = block[0]
        elif not valid:
            out[y, x] = fill
        elif method == "mode":
            out[y, x] = Counter(valid).most_common(1)[0][0]  # of several the first
        elif method == "mean":
            mean = sum(valid) / len(valid)
            out[y, x] = mean if pixels.dtype.kind == "f" else round(mean)  # halves to the even one
            if pixels.dtype.kind != "f" and round(mean) == fill:
                out[y, x] = fill - 1 if mean < fill else fill + 1
        else:
            out[y, x] = {"min": min, "max": max}[method](valid)
    return out


@pytest.mark.parametrize("method", ["mode", "mean", "min", "max", "nearest"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_four_pixels_become_one_as_a_plain_loop_says(dtype: str, method: str) -> None:
    if method == "mean" and dtype in ("bool", "int64"):
        return  # refused by the spec
    rng = np.random.default_rng(3)
    fill: Any = {"b": False, "f": np.nan, "i": -1, "u": 255}[np.dtype(dtype).kind]
    for share in (0, 0.3, 0.9, 1):
        for shape in ((8, 10), (7, 9), (1, 1), (1, 6)):
            pixels = rng.integers(0, 2 if dtype == "bool" else 5, shape).astype(dtype)
            pixels[rng.random(shape) < share] = fill
            np.testing.assert_array_equal(
                halve(pixels, variable(dtype, fill), method), slow(pixels, fill, method), strict=True
            )


def test_no_mean_becomes_the_fill_value() -> None:
    rng = np.random.default_rng(5)
    for dtype, fill in (("int16", 0), ("uint8", 128), ("int8", -1)):
        pixels = (rng.integers(-3, 4, (60, 80)) + fill).astype(dtype)
        got = halve(pixels, variable(dtype, fill), "mean")
        np.testing.assert_array_equal(got, slow(pixels, fill, "mean"))
        np.testing.assert_array_equal(got == fill, slow((pixels == fill).astype("uint8"), 9, "min") == 1)
    for dtype, end in (("uint8", 0), ("uint8", 255), ("int16", -32768), ("int16", 32767)):
        near = 1 if end <= 0 else -1
        pixels = np.array([[end, end + near], [end + near, end + near]], dtype)
        assert halve(pixels, variable(dtype, end), "mean").item() == end + near
    for low, high in ((-1.0, 1.0), (-2.0, 2.0)):
        mean = halve(np.array([[low, high], [low, high]], "float32"), variable("float32", 0.0), "mean").item()
        assert 0 < abs(mean) < 1e-30


def test_booleans_are_all_counted_whatever_the_fill_value_is() -> None:
    pixels = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0]], bool)
    for fill in (False, True):
        assert halve(pixels, variable("bool", fill), "mode").tolist() == [[False, True], [True, False]]
        assert halve(pixels, variable("bool", fill), "min").tolist() == [[False, True], [True, False]]
        assert halve(pixels, variable("bool", fill), "max").tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize("fill", [-9999.0, np.nan])
def test_nan_is_missing_whatever_the_fill_value_is(fill: float) -> None:
    pixels = np.array([[1, np.nan, np.nan, np.nan], [np.nan, 4, np.nan, np.nan]], "float32")
    assert halve(pixels, variable("float32", fill), "mean")[0, 0] == 2.5
    np.testing.assert_array_equal(halve(pixels, variable("float32", fill), "max"), np.array([[4, fill]], "float32"))


def test_extremes_of_a_dtype_do_not_overflow() -> None:
    for dtype in ("uint8", "int16", "uint16", "int32", "uint32"):
        most = np.iinfo(dtype).max
        assert halve(np.full((2, 2), most, dtype), variable(dtype, 0), "mean").item() == most
    large = np.full((2, 2), 1.7e308)
    large[0, 0] = np.nan
    for n in (1, 2):
        assert halve(large[-n:], variable("float64", np.nan), "mean").item() == pytest.approx(1.7e308)
    wide = np.array([[2**63 - 1, 2**63 - 2], [2**63 - 2, 5]])
    assert halve(wide, variable("int64", 0), "mode").item() == 2**63 - 2
    assert halve(wide, variable("int64", 0), "max").item() == 2**63 - 1


def test_axes_before_rows_and_columns_stay() -> None:
    pixels = np.random.default_rng(1).integers(0, 4, (3, 2, 6, 8)).astype("uint8")
    got = halve(pixels, variable("uint8", 0), "mode")
    assert got.shape == (3, 2, 3, 4)
    for i, j in np.ndindex(3, 2):
        np.testing.assert_array_equal(got[i, j], slow(pixels[i, j], 0, "mode"))


@pytest.mark.parametrize(
    ("dtype", "attrs", "said", "expected"),
    [
        ("uint8", {}, None, "mode"),
        ("bool", {"units": "1"}, None, "mode"),
        ("uint8", {"units": "percent"}, None, "mean"),
        ("int16", {"units": "1", "flag_meanings": "a b"}, None, "mode"),
        ("int64", {}, None, "mode"),
        ("int16", {}, None, "mean"),
        ("float32", {}, None, "mean"),
        ("float32", {"flag_values": [1, 2], "flag_meanings": "a b"}, None, "mode"),
        ("uint8", {}, "mean", "mean"),
        ("uint8", {}, "none", None),
    ],
)
def test_method_suits_the_data_unless_the_spec_says_another(
    dtype: str, attrs: dict[str, Any], said: str | None, expected: str | None
) -> None:
    assert method_of(variable(dtype, 0, attrs, said)) == expected
