import pytest

from jvlm import errors
from jvlm.errors import DataError, JvlmError, UsageError


def test_message_says_what_where_and_what_to_do() -> None:
    error = DataError("caption is empty", where="captions.jsonl:12", fix="fill it or drop the row")
    assert str(error) == "captions.jsonl:12: caption is empty (fill it or drop the row)"
    assert str(JvlmError("disk is full")) == "disk is full"


@pytest.mark.parametrize(("kind", "code"), [(JvlmError, 1), (UsageError, 2), (DataError, 3)])
def test_exit_codes(kind: type[JvlmError], code: int) -> None:
    assert kind("x").exit_code == code
    assert issubclass(kind, JvlmError)


def test_exit_codes_are_distinct() -> None:
    codes = [getattr(errors, name) for name in dir(errors) if name.startswith("EXIT_")]
    assert sorted(codes) == [0, 1, 2, 3, 4, 5]
