"""The passing rules of the professions, each at its mark and one point below."""

import pytest
from exam_items import make_item
from pydantic import ValidationError

from jvlm.eval.exam import ExamSheet, score_exam
from jvlm.eval.items import ExamItem
from jvlm.eval.pass_rules import PassRule, field_of, in_part, load_pass_rules, needed

Part = tuple[int, int, bool, str]  # questions, points of each, required, tag


def paper(*parts: Part) -> list[ExamItem]:
    return [
        make_item(f"{number}-{i}", points=points, required=required, tags=[tag] if tag else [])
        for number, (count, points, required, tag) in enumerate(parts)
        for i in range(count)
    ]


def examinee(items: list[ExamItem], right: dict[int, int], rule: PassRule) -> ExamSheet:
    """Right on the first `right[part]` questions of each part."""
    answers = {item.id: ["a" if int(item.id.split("-")[1]) < right[int(item.id[0])] else "b"] for item in items}
    return score_exam(items, answers, rule)


NURSE = paper((50, 1, True, ""), (130, 1, False, ""), (60, 2, False, ""))
THERAPIST = paper((160, 1, False, ""), (40, 3, False, ""))
PHARMACIST = paper((60, 2, True, "field=物理"), (30, 2, True, "field=薬理"), (255, 2, False, "field=実務"))
DENTIST = paper((80, 1, True, ""), (99, 1, False, "domain=A"), (372, 1, False, "domain=B"))
NURSERY = paper((75, 1, False, ""), (35, 2, False, ""))
RADIOLOGICAL = paper((190, 1, False, "field=画像"), (6, 1, False, "field=法令"), (4, 1, False, "field=倫理"))

AT_THE_MARK = {
    "nurse-2020": (NURSE, {0: 40, 1: 35, 2: 60}),
    "nurse-2023": (NURSE, {0: 40, 1: 32, 2: 60}),
    "dentist-2020": (DENTIST, {0: 64, 1: 65, 2: 260}),
    "dentist-2024": (DENTIST, {0: 64, 1: 60, 2: 254}),
    "physical_therapist-2024": (THERAPIST, {0: 123, 1: 15}),
    "occupational_therapist-2020": (THERAPIST, {0: 120, 1: 16}),
    "public_health_nurse-2022": (NURSERY, {0: 75, 1: 6}),
    "midwife-2022": (NURSERY, {0: 17, 1: 35}),
    "clinical_lab-58": (paper((200, 1, False, "")), {0: 120}),
    "orthoptist-2021": (paper((130, 1, False, ""), (20, 2, False, "")), {0: 62, 1: 20}),
    "radiological-2021": (RADIOLOGICAL, {0: 119, 1: 1, 2: 0}),
    "pharmacist-2020": (PHARMACIST, {0: 54, 1: 9, 2: 150}),
}


@pytest.mark.parametrize("exam", AT_THE_MARK)
def test_the_mark_is_enough_and_a_question_less_is_not(exam: str) -> None:
    items, right = AT_THE_MARK[exam]
    rule = load_pass_rules().of(exam)
    assert rule is not None
    if rule.paper is not None:
        assert sum(item.points for item in items) == rule.paper
    sheet = examinee(items, right, rule)
    assert sheet.passed
    for part, needs in sheet.to_record()["needs"].items():
        assert needs["passed"], part
        assert needs["needed"] <= needs["points"] <= needs["needed"] + 5
    short = [
        part for part in right if right[part] and not examinee(items, right | {part: right[part] - 1}, rule).passed
    ]
    assert short, exam
    everything = dict.fromkeys(right, 10**6)
    for part in short:  # the part that failed does so by itself, or by the sum of all
        assert examinee(items, everything, rule).passed
        assert not examinee(items, everything | {part: 0}, rule).passed or "all" in rule.needs


def test_each_need_fails_alone() -> None:
    rules = load_pass_rules()
    assert not examinee(NURSE, {0: 39, 1: 130, 2: 60}, rules.of("nurse-2020")).passed
    assert not examinee(NURSE, {0: 50, 1: 34, 2: 60}, rules.of("nurse-2020")).passed
    assert not examinee(THERAPIST, {0: 160, 1: 14}, rules.of("physical_therapist")).passed  # 42 of 120 practical points
    assert not examinee(DENTIST, {0: 80, 1: 64, 2: 372}, rules.of("dentist-2020")).passed
    assert not examinee(PHARMACIST, {0: 60, 1: 8, 2: 255}, rules.of("pharmacist-2020")).passed  # 16 of 60 points
    assert examinee(PHARMACIST, {0: 60, 1: 9, 2: 255}, rules.of("pharmacist-2020")).passed  # 18 are 30 %
    assert not examinee(RADIOLOGICAL, {0: 190, 1: 0, 2: 0}, rules.of("radiological")).passed
    assert examinee(RADIOLOGICAL, {0: 190, 1: 0, 2: 1}, rules.of("radiological")).passed


def test_needs_scale_with_what_counts() -> None:
    assert needed("80%", 200) == 160
    assert needed("80%", 197) == 158  # as announced for the 114th and 116th
    assert needed("208/299", 299) == 208
    assert needed("208/299", 298) == 208
    assert needed("65", 12) == 65
    for text in ("208/0", "0.8", "", "80 %", "all"):
        with pytest.raises(ValidationError, match="not of the form"):
            PassRule(needs={"all": text})


def test_parts_and_fields() -> None:
    item = make_item("x", points=3, required=True, tags=["category=産科", "domain=A"])
    parts = ("all", "required", "general", "all:3", "all:1", "required:3", "domain=A", "domain=B")
    assert [part for part in parts if in_part(item, part)] == ["all", "required", "all:3", "required:3", "domain=A"]
    assert field_of(item) == "産科"
    assert field_of(make_item("y", tags=["field=薬理"])) == "薬理"
    assert field_of(make_item("z")) is None


def test_an_exam_without_a_published_rule_has_none() -> None:
    rules = load_pass_rules()
    assert rules.of("toyworld") is None
    assert rules.of("clinical_lab-60") == rules.of("clinical_lab")
    assert rules.of("nurse-1999") is None


def test_fewer_taboo_options_in_earlier_years() -> None:
    items = [make_item(f"A{i}", kinki=["e"]) for i in range(100)]
    rule = PassRule(needs={"general": "60%"}, max_taboo=2)
    for count, passed in ((2, True), (3, False)):
        marks = {item.id: ["e"] if i < count else ["a"] for i, item in enumerate(items)}
        assert score_exam(items, marks, rule).passed is passed
    without = PassRule(needs={"general": "60%"})
    assert score_exam(items, {item.id: ["e"] if i < 9 else ["a"] for i, item in enumerate(items)}, without).passed
