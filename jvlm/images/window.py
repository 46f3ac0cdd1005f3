"""Greyscale values of any range → 8 bits: between robust percentiles, or through a radiological window."""

import math

import numpy as np

from jvlm.errors import DataError, UsageError

Window = tuple[float, float] | str
"""Centre and width in the values of the image, or the name of one of `CT_WINDOWS`."""

CT_WINDOWS: dict[str, tuple[float, float]] = {
    "lung": (-600, 1500),
    "mediastinum": (50, 350),
    "abdomen": (50, 400),
    "liver": (30, 150),
    "bone": (400, 1800),
    "brain": (40, 80),
}
"""Centre and width in Hounsfield units, as in common use; textbooks differ by tens, for lung and bone by hundreds."""

WINDOW_PERCENTILES = (0.5, 99.5)


def check_window(window: Window | None) -> None:
    """Raises UsageError for an unknown name or a window that is not a finite centre and a positive width."""
    if isinstance(window, str):
        if window not in CT_WINDOWS:
            raise UsageError(f"unknown window '{window}'", fix=f"known: {', '.join(CT_WINDOWS)}")
    elif window is not None:
        center, width = window
        if not (math.isfinite(center) and math.isfinite(width) and width > 0):
            raise UsageError(f"no window has centre {center} and width {width}", fix="the width is above 0")


def valid_window(center: float, width: float, function: str) -> bool:
    """Whether PS3.3 C.11.2 allows this window: LINEAR counts whole values, so that its width is at least 1."""
    return math.isfinite(center) and math.isfinite(width) and (width >= 1 if function == "LINEAR" else width > 0)


def apply_window(values: np.ndarray, center: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """[H, W] integers or floats → uint8, by a VOI LUT function of DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3.

    Values below the window become 0, above it 255; NaN becomes 0.

    Args:
        values: after the modality's rescale, where there is one.
        center: in the unit of `values`, as is `width`.
        function: `LINEAR` (the default of the standard: the centre of `width` whole values), `LINEAR_EXACT` (from
            center - width / 2 to center + width / 2) or `SIGMOID`.

    Raises:
        DataError: for another function, or a width it does not allow.
    """
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise DataError("the VOI LUT function is none of LINEAR, LINEAR_EXACT and SIGMOID")
    if not valid_window(center, width, function):
        raise DataError(f"a window of width {width:g} cannot be applied", fix="a window of integers is at least 1 wide")
    values = _floating(values)
    if function == "SIGMOID":
        with np.errstate(over="ignore"):  # exp → inf, the share → 0
            share = 1 / (1 + np.exp(-4 * (values - center) / width))
    else:
        if function == "LINEAR":
            center, width = center - 0.5, width - 1
        # a width of 1 is a step
        share = (values - center) / width + 0.5 if width else np.where(values > center, 1.0, 0.0)
    return to_uint8(share)


def percentile_window(values: np.ndarray) -> np.ndarray:
    """[H, W] integers or floats → uint8, linear between robust percentiles; a flat image becomes mid-grey."""
    values = _floating(values)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise DataError("no pixel has a finite value")
    low, high = map(float, np.percentile(finite, WINDOW_PERCENTILES))
    if high <= low:  # nearly all pixels alike, as in a mask
        low, high = float(finite.min()), float(finite.max())
    if high <= low:
        return np.full(values.shape, 128, np.uint8)
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    return to_uint8((np.clip(values, low, high) - low) / (high - low))


def to_uint8(share: np.ndarray) -> np.ndarray:
    """Shares of the full range, cut to 0 … 1, as 0 … 255; NaN becomes 0."""
    return np.rint(np.clip(np.nan_to_num(share, nan=0.0), 0, 1) * 255).astype(np.uint8)


def _floating(values: np.ndarray) -> np.ndarray:
    """float32 holds 16-bit integers exactly, in half the memory."""
    return values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
