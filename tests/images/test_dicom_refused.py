"""DICOM files that are refused, limits, and what a report says of a patient."""

import copy
import io
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import COLOUR, CT, RESCALE, RGB, TAGS, dicom_bytes, dicom_dataset, dicom_file, encoded, pydicom, smooth
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from jvlm.errors import DataError, UsageError
from jvlm.images.dicom import privacy_findings
from jvlm.images.load import Limits, image_size, load_frames, load_image
from jvlm.sample import ImageRef


@pytest.mark.parametrize("syntax", [
    uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.HTJ2KLossless, uid.DeflatedExplicitVRLittleEndian, uid.MPEG2MPML,
])  # fmt: skip
def test_other_transfer_syntaxes_are_named(syntax: uid.UID) -> None:
    own = uid.ExplicitVRLittleEndian.encode() + b"\0"
    data = dicom_file(CT).replace(own, syntax.encode() + b"\0" * (len(syntax) % 2))
    old, new = len(uid.ExplicitVRLittleEndian) + 1, len(syntax) + len(syntax) % 2
    position = data.index(b"\x02\0\x10\0UI") + 6
    assert data[position] == old
    data = data[:position] + bytes([new]) + data[position + 1 :]
    for use in (load_image, load_frames, image_size, privacy_findings):
        with pytest.raises(DataError) as caught:
            use(data)
        assert syntax.name in str(caught.value)
        assert "gdcmconv" in str(caught.value)


def test_an_unknown_transfer_syntax_is_not_quoted() -> None:
    data = dicom_file(CT).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.6.6.6\0")
    with pytest.raises(DataError, match="the transfer syntax 'unknown'"):
        load_image(data)


def test_twelve_bit_jpeg_is_refused_with_its_name() -> None:
    jpeg = encoded(Image.fromarray(smooth()[..., 0]), "JPEG")
    data = dicom_file(encapsulate([jpeg]), uid.JPEGExtended12Bit, BitsAllocated=16, BitsStored=12)
    with pytest.raises(DataError, match=r"unsupported kind \(JPEG Extended"):
        load_image(data)


def _compressed() -> dict[str, bytes]:
    rle = dicom_dataset(CT)
    rle.compress(uid.RLELossless)
    return {
        "native": dicom_file(CT),
        "rle": dicom_bytes(rle),
        "jpeg": dicom_file(encapsulate([encoded(Image.fromarray(smooth()[..., 0]), "JPEG")]), uid.JPEGBaseline8Bit),
        "jpeg 2000": dicom_file(
            encapsulate([encoded(Image.fromarray(CT), "JPEG2000", no_jp2=True)]),
            uid.JPEG2000Lossless,
            BitsAllocated=16,
            BitsStored=16,
        ),
    }


@pytest.mark.parametrize("kind", ["native", "rle", "jpeg", "jpeg 2000"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.filterwarnings("ignore:End of file reached", "ignore:.*fewer frames")
def test_truncated_files_are_refused(kind: str, share: float) -> None:
    data = _compressed()[kind]
    load_image(data)
    with pytest.raises(DataError):
        load_image(data[: int(len(data) * share)])


@pytest.mark.parametrize("kind", ["rle", "jpeg", "jpeg 2000"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_truncated_frames_in_a_whole_file_are_refused(kind: str, share: float) -> None:
    dataset = pydicom.dcmread(io.BytesIO(_compressed()[kind]))
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame[: int(len(frame) * share)]])
    with pytest.raises(DataError, match="truncated, damaged or of an unsupported kind"):
        load_image(dicom_bytes(dataset))


@pytest.mark.parametrize("kind", ["native", "rle", "jpeg", "jpeg 2000"])
@pytest.mark.filterwarnings("ignore:The end of the encapsulated")
def test_frames_that_are_promised_must_be_there(kind: str) -> None:
    dataset = pydicom.dcmread(io.BytesIO(_compressed()[kind]))
    dataset.NumberOfFrames = 2
    with pytest.raises(DataError):
        load_frames(dicom_bytes(dataset))


@pytest.mark.parametrize("change", [
    {"Rows": 8000, "Columns": 8000}, {"Rows": 20000, "Columns": 1}, {"NumberOfFrames": 70000},
])  # fmt: skip
@pytest.mark.parametrize("kind", ["native", "rle", "jpeg", "jpeg 2000"])
def test_sizes_are_checked_before_pixels(kind: str, change: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr("jvlm.images.dicom._decode", decode)
    dataset = pydicom.dcmread(io.BytesIO(_compressed()[kind]))
    for keyword, value in change.items():
        setattr(dataset, keyword, value)
    for use in (load_image, load_frames, image_size):
        with pytest.raises(DataError, match=r"pixels, allowed are 16384 a side and 50 million in all"):
            use(dicom_bytes(dataset))


def test_a_frame_of_another_size_than_its_header_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    large = encoded(Image.new("L", (3000, 3000)), "JPEG")
    data = dicom_file(encapsulate([large]), uid.JPEGBaseline8Bit)
    monkeypatch.setattr("pydicom.pixels.decoders.pillow._decode_frame", None)
    with pytest.raises(DataError, match="another size than its header says"):
        load_image(data)
    segment = b"\x81\0" * 200_000  # 25 MB of zeros
    rle = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + segment
    with pytest.raises(DataError, match="another size than its header says"):
        load_image(dicom_file(encapsulate([rle]), uid.RLELossless))


def test_files_that_hold_no_image() -> None:
    for absent in ("PixelData", "Rows", "Columns"):
        dataset = dicom_dataset(CT)
        del dataset[absent]
        with pytest.raises(DataError, match="holds no image"):
            load_image(dicom_bytes(dataset))
    with pytest.raises(DataError, match="without pixels"):
        load_image(dicom_file(CT, Rows=0))
    with pytest.raises(DataError):
        load_image(bytes(128) + b"DICM")
    with pytest.raises(DataError, match="not a readable"):
        load_image(dicom_file(CT)[132:])  # without its preamble


def test_sources_limits_and_names(tmp_path: Path) -> None:
    path = tmp_path / "胸部.dcm"
    path.write_bytes(dicom_file(CT, BitsStored=12, **RESCALE, **TAGS))
    whole = load_image(path.read_bytes()).tobytes()
    for source in (path, str(path), ImageRef(path=str(path)), ImageRef(data=path.read_bytes())):
        assert load_image(source).tobytes() == whole
    with pytest.raises(DataError, match=r"胸部\.dcm: the image is 32 × 24 pixels, allowed are"):
        load_image(path, limits=Limits(max_pixels=700))
    with pytest.raises(DataError, match=r"^a\.tar:k:0: "):
        load_image(path.read_bytes()[:600], where="a.tar:k:0")


def test_without_pydicom_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dicom_file(CT)
    for name in [name for name in sys.modules if name.split(".")[0] == "pydicom"]:
        monkeypatch.setitem(sys.modules, name, None)
    for use in (load_image, load_frames, image_size, privacy_findings):
        with pytest.raises(UsageError, match=r"pip install 'jvlm\[medical\]'"):
            use(data)
    load_image(encoded(Image.fromarray(RGB), "PNG"))


def test_pydicom_is_loaded_for_dicom_alone() -> None:
    script = (
        "import io, sys\n"
        "from PIL import Image\n"
        "from jvlm.images.load import load_image\n"
        "file = io.BytesIO()\n"
        "Image.new('RGB', (4, 4)).save(file, 'PNG')\n"
        "load_image(file.getvalue())\n"
        "assert 'pydicom' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


SECRETS = ("YAMADA^Taro", "山田", "PID-4711", "19600101", "Kita Hospital")


def _patient(**elements: Any) -> Dataset:
    request = Dataset()
    request.AccessionNumber = "A-1"
    given: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192", "PatientName": "YAMADA^Taro=山田^太郎", "PatientID": "PID-4711",
        "PatientBirthDate": "19600101", "InstitutionName": "Kita Hospital", "ReferringPhysicianName": "",
        "RequestAttributesSequence": [request],
    }  # fmt: skip
    return dicom_dataset(CT, **(given | elements))


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_privacy_names_elements_and_never_their_values(syntax: str) -> None:
    dataset = _patient()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.private_block(0x0099, "VENDOR", create=True).add_new(1, "LO", "YAMADA^Taro")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        findings = privacy_findings(dicom_bytes(dataset))
    assert sorted(findings) == sorted([
        "PatientName", "PatientID", "PatientBirthDate", "InstitutionName", "RequestAttributesSequence.AccessionNumber",
        "private elements", "BurnedInAnnotation is absent",
    ])  # fmt: skip
    assert not [secret for secret in SECRETS if secret in str(findings)]


def test_privacy_of_clean_and_burned_in_files() -> None:
    assert privacy_findings(dicom_file(CT, BurnedInAnnotation="NO", PatientName="", PatientID="  ")) == []
    assert privacy_findings(dicom_file(CT, BurnedInAnnotation="YES")) == ["BurnedInAnnotation is YES"]
    assert privacy_findings(dicom_file(CT, BurnedInAnnotation="")) == ["BurnedInAnnotation is absent"]
    with pytest.raises(DataError, match="not a DICOM file"):
        privacy_findings(encoded(Image.fromarray(RGB), "PNG"))


def test_damaged_files_raise_only_data_errors_that_quote_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """300 files with bytes changed, cut or inserted: an image or a DataError, and no word of the patient anywhere."""
    files = [dicom_bytes(_patient(**TAGS)), *_compressed().values()]
    rgb = _patient()
    rgb.update(copy.deepcopy(dicom_dataset(RGB, PhotometricInterpretation="RGB", **COLOUR)))
    files.append(dicom_bytes(rgb))
    rng = np.random.default_rng(9)
    errors = []
    for number in range(300):
        data = bytearray(files[number % len(files)])
        for _ in range(int(rng.integers(1, 8))):
            data[int(rng.integers(132, min(len(data), 1000)))] = int(rng.integers(256))
        if rng.random() < 0.3:
            place = int(rng.integers(132, len(data)))
            data[place:place] = rng.bytes(int(rng.integers(1, 40)))
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            for use in (load_frames, privacy_findings):
                try:
                    use(bytes(data))
                except DataError as error:
                    errors.append(str(error))
        said = "\n".join([str(warning.message) for warning in warned] + errors[-2:] + caplog.messages)
        assert not [secret for secret in SECRETS if secret in said], said
    assert len(errors) > 50
    assert not [error for error in errors if "0x" in error or "<" in error]
