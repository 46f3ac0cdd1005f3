"""Windows against the text of the standard, read value by value."""

import math
import warnings

import numpy as np
import pytest

from jvlm.errors import DataError, UsageError
from jvlm.images.window import CT_WINDOWS, apply_window, check_window, percentile_window

HOUNSFIELD = np.arange(-1100, 1900, 3, np.int16).reshape(20, 50)


def _standard(x: float, c: float, w: float, function: str) -> float:
    """One grey value of 0 … 255, word for word from PS3.3 C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2."""
    y_min, y_max = 0.0, 255.0
    if function == "LINEAR":
        if x <= c - 0.5 - (w - 1) / 2:
            return y_min
        if x > c - 0.5 + (w - 1) / 2:
            return y_max
        return ((x - (c - 0.5)) / (w - 1) + 0.5) * (y_max - y_min) + y_min
    if function == "LINEAR_EXACT":
        if x <= c - w / 2:
            return y_min
        if x > c + w / 2:
            return y_max
        return ((x - c) / w + 0.5) * (y_max - y_min) + y_min
    return (y_max - y_min) / (1 + math.exp(-4 * (x - c) / w)) + y_min


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [*CT_WINDOWS.values(), (40, 2), (40, 1), (0.5, 80.5), (100000, 10)])
def test_window_is_the_standards(center: float, width: float, function: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = apply_window(HOUNSFIELD, center, width, function)
    assert pixels.dtype == np.uint8

    def expected(x: float) -> float:
        try:
            return _standard(x, center, width, function)
        except OverflowError:  # exp of a value far below the window
            return 0.0

    text = np.array([[expected(float(x)) for x in row] for row in HOUNSFIELD])
    assert np.abs(pixels - text).max() <= 0.51


def test_a_width_of_one_is_a_step() -> None:
    """x <= c - 0.5 is black, as the standard has it."""
    assert apply_window(np.array([[39.4, 39.5, 39.6, 40.0]]), 40, 1).tolist() == [[0, 0, 255, 255]]


def test_functions_differ() -> None:
    """Else the test above could not tell them apart."""
    linear, exact, sigmoid = (apply_window(HOUNSFIELD, 40, 80, f) for f in ("LINEAR", "LINEAR_EXACT", "SIGMOID"))
    assert (linear != exact).any()
    assert np.abs(linear.astype(int) - sigmoid).max() > 10


def test_nan_and_infinity_have_a_grey() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 0.5]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert apply_window(values, 0.5, 1, "LINEAR_EXACT").tolist() == [[0, 255, 0, 128]]


@pytest.mark.parametrize(("width", "function"), [(0.5, "LINEAR"), (0, "LINEAR_EXACT"), (math.nan, "SIGMOID"), (9, "x")])
def test_windows_outside_the_standard_are_refused(width: float, function: str) -> None:
    with pytest.raises(DataError):
        apply_window(HOUNSFIELD, 40, width, function)


@pytest.mark.parametrize("window", ["lungs", (40, 0), (40, -1), (math.inf, 1), (0, math.nan)])
def test_unusable_requests_are_usage_errors(window: tuple[float, float] | str) -> None:
    with pytest.raises(UsageError):
        check_window(window)


def test_all_named_windows_can_be_asked_for() -> None:
    for name in CT_WINDOWS:
        check_window(name)
    check_window(None)
    check_window((40, 80))


def test_the_whole_range_is_never_saturated() -> None:
    """A ramp over all 16-bit values keeps every grey, evenly: 1 % is cut, as the percentiles say, and no more."""
    ramp = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    pixels = percentile_window(ramp).ravel()
    assert (np.diff(pixels.astype(int)) >= 0).all()
    counts = np.bincount(pixels, minlength=256) / pixels.size
    assert counts.max() < 0.009  # 1/255 of 99 % between, and 0.5 % at either end
    assert counts.min() > 0.0015
