"""Small exam items for the tests of this folder."""

from dataclasses import replace
from typing import Any

from jvlm.eval.items import ExamItem, Option

_ITEM = ExamItem(
    id="x", exam="試験", section="A", number=1, group_id="g", stem="架空の所見はどれか。", shared_text="",
    options=[Option(label, f"所見{label}") for label in "abcde"], images=[], answer_type="mcq_single", n_select=1,
    accept=[["a"]], excluded="none", points=1, required=False, kinki=[], source="test", sha256="0", tags=[],
)  # fmt: skip


def make_item(name: str, **changes: Any) -> ExamItem:
    return replace(_ITEM, id=name, group_id=changes.pop("group_id", name), **changes)


def numeric(name: str, number: str, **changes: Any) -> ExamItem:
    return make_item(name, options=[], answer_type="numeric", accept=[[number]], **changes)


def multi(name: str, *accept: str, **changes: Any) -> ExamItem:
    return make_item(name, answer_type="mcq_multi", n_select=2, accept=[list(marks) for marks in accept], **changes)
