"""DICOM files made for tests."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

pydicom = pytest.importorskip("pydicom", reason="the medical extra is not installed: pip install 'jvlm[medical]'")

from pydicom import uid  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402

H, W = 24, 32


def dicom_dataset(pixels: np.ndarray | bytes, syntax: str = uid.ExplicitVRLittleEndian, **elements: Any) -> Dataset:
    """[H, W] or [H, W, 3] values, several frames of them with NumberOfFrames, or encapsulated bytes → a DICOM file."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = uid.SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.4"
    dataset.Rows, dataset.Columns = H, W
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.PixelRepresentation = 0
    if isinstance(pixels, np.ndarray):
        dataset.BitsAllocated = dataset.BitsStored = pixels.itemsize * 8
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        data = pixels.astype(pixels.dtype.newbyteorder(">")) if syntax == uid.ExplicitVRBigEndian else pixels
        dataset.PixelData = data.tobytes() + b"\0" * (data.nbytes % 2)
    else:
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.PixelData = pixels
        dataset["PixelData"].is_undefined_length = True
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.HighBit = dataset.BitsStored - 1
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
    return dataset


def dicom_bytes(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def dicom_file(pixels: np.ndarray | bytes, syntax: str = uid.ExplicitVRLittleEndian, **elements: Any) -> bytes:
    return dicom_bytes(dicom_dataset(pixels, syntax, **elements))


def noise(low: int, high: int, kind: type, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape or (H, W)).astype(kind)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def smooth() -> np.ndarray:
    y, x = np.mgrid[0:H, 0:W]
    return np.stack([8 * x, 255 - 10 * y, 4 * (x + y)], 2).clip(0, 255).astype(np.uint8)


CT = noise(0, 2500, np.uint16)  # stored; −1024 … 1475 HU
RESCALE = {"RescaleSlope": 1, "RescaleIntercept": -1024}
RGB = noise(0, 256, np.uint8, H, W, 3)
COLOUR = {"SamplesPerPixel": 3, "PlanarConfiguration": 0}
TAGS = {"WindowCenter": 40, "WindowWidth": 1500}
