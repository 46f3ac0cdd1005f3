"""Exam questions for practice: choose, see what the model thinks with and without the picture, mark a whole paper."""

from pathlib import Path
from typing import Any

import streamlit as st
from jvlm_apps.shared import place, service, t, told

from jvlm.errors import JvlmError
from jvlm.eval.exam import is_correct
from jvlm.eval.items import ExamItem, exam_answer, exam_sample
from jvlm.eval.parsing import parse_number
from jvlm.eval.practice import load_calibration, load_papers, opinion, sheet_of
from jvlm.infer.conversation import png
from jvlm.infer.types import Request

MAX_NUMBER_TOKENS = 16


@st.cache_data(show_spinner=False)
def _papers(folder: str) -> dict[str, list[ExamItem]]:
    return load_papers(Path(folder))


def main() -> None:
    st.title(t("exam"))
    engine, _, _ = service()
    folder = place("EXAM")
    try:
        papers = _papers(str(folder)) if folder else {}
    except JvlmError as error:
        st.text(error.what)
        papers = {}
    if not papers:
        st.info(t("no_exam"))
        return
    exam = st.selectbox(t("paper"), list(papers))
    items = papers[exam]
    answers: dict[str, list[str]] = st.session_state.setdefault("answers", {}).setdefault(exam, {})
    at = _position(exam, items, answers)
    _question(engine, exam, items[at], answers)
    _paper(items, answers)


def _position(exam: str, items: list[ExamItem], answers: dict[str, list[str]]) -> int:
    """Number of the question that is shown; buttons move it by one."""
    key = f"at-{exam}"
    st.session_state.setdefault(key, 0)

    def move(by: int) -> None:
        st.session_state[key] = min(max(st.session_state[key] + by, 0), len(items) - 1)

    previous, middle, following = st.columns([1, 3, 1], vertical_alignment="bottom")
    previous.button("←", on_click=move, args=(-1,), help=t("previous"), key="previous")
    following.button("→", on_click=move, args=(1,), help=t("next"), key="next")
    names = [f"{item.section}{item.number}" + (" ✓" if item.id in answers else "") for item in items]
    middle.selectbox(t("question"), range(len(items)), format_func=names.__getitem__, key=key)
    return int(st.session_state[key])


def _question(engine: Any, exam: str, item: ExamItem, answers: dict[str, list[str]]) -> None:
    with told():
        for picture in item.images:
            st.image(png(Path(picture).read_bytes()))
    st.text(item.shared_text + item.stem)
    marked = _marked(item, answers.get(item.id, []))
    if marked:
        answers[item.id] = marked
    else:
        answers.pop(item.id, None)
    left, right = st.columns(2)
    if left.button(t("ask_model"), key=f"ask-{item.id}"):
        with told():
            _show_opinions(engine, exam, item)
    if right.toggle(t("show_key"), key=f"key-{item.id}"):
        st.text(f"{t('key')}: {exam_answer(item)}" + (" ✓" if is_correct(item, answers.get(item.id)) else ""))


def _marked(item: ExamItem, before: list[str]) -> list[str]:
    """What the visitor answers: buttons for choices, a field for a number."""
    if item.answer_type == "numeric":
        typed = st.text_input(t("number"), before[0] if before else "", key=f"number-{item.id}")
        number = parse_number(typed)
        return [number] if number is not None else []
    texts = {option.label: f"{option.label}. {option.text}" for option in item.options}
    for option in item.options:
        if option.image:
            with told():
                st.image(png(Path(option.image).read_bytes()), caption=option.label, width=160)
    mode: Any = "multi" if item.n_select > 1 else "single"
    chosen = st.pills(
        t("your_answer"),
        item.labels,
        selection_mode=mode,
        default=before if mode == "multi" else next(iter(before), None),
        format_func=lambda label: texts[label].replace("[", "\\[").replace(":", "\\:"),
        key=f"mark-{item.id}",
    )
    return list(chosen) if isinstance(chosen, list) else [chosen] if chosen else []


def _show_opinions(engine: Any, exam: str, item: ExamItem) -> None:
    """The model's view, with the pictures and, where there are any, without them."""
    arms = [True, False] if item.pictures else [True]
    for with_image, column in zip(arms, st.columns(len(arms)), strict=True):
        sample = exam_sample(item, with_image)
        with column:
            if item.pictures:
                st.subheader(t("with_image") if with_image else t("without_image"))
            if item.answer_type == "numeric":
                st.text(engine.submit(Request(sample, max_new_tokens=MAX_NUMBER_TOKENS)).result(timeout=120).text)
                continue
            asked = engine.submit(Request(sample, choices=tuple(option.words for option in item.options)))
            asked.result(timeout=120)
            results = place("RESULTS")
            found = opinion(item, asked.choice_probabilities, load_calibration(results, exam) if results else None)
            for option, share in zip(item.options, found.probabilities, strict=True):
                mark = "●" if option.label in found.marks else "○"
                st.text(f"{mark} {option.label} {share:.0%} {option.text}")
                st.progress(share)
            if found.confidence is not None:
                st.text(f"{t('confidence')}: {found.confidence:.0%}")
            elif with_image:
                st.caption(t("uncalibrated"))
            if found.abstains:
                st.warning(t("abstains"))


def _paper(items: list[ExamItem], answers: dict[str, list[str]]) -> None:
    """The official score sheet of what was answered so far; unanswered questions are wrong, as in the exam."""
    st.divider()
    st.caption(f"{t('answered')} {len(answers)} / {len(items)}")
    if not answers or not st.button(t("sheet")):
        return
    sheet = sheet_of(items, answers)
    (st.success if sheet.passed else st.error)(t("passed") if sheet.passed else t("not_passed"))
    rows = [("", sheet.all.points, sheet.all.total, "")]
    rows += [(part, tally.points, tally.total, str(sheet.needed(part))) for part, tally in sheet.parts.items()]
    st.table([{"": part, t("points"): f"{won} / {total}", t("needed"): need} for part, won, total, need in rows])
    if sheet.rule.max_taboo is not None:
        st.text(f"{t('taboo')}: {sheet.taboo_count} (≤ {sheet.rule.max_taboo})")


main()
