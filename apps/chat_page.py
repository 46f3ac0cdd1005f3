"""Ask about images: several of them, several turns, with a Stop that frees the engine."""

import time
from pathlib import Path
from typing import Any

import streamlit as st
from jvlm_apps.evidence import show_evidence
from jvlm_apps.shared import MAX_IMAGES, place, preview, service, t, told, usable, window_choice

from jvlm.datasets.reviews import add_review
from jvlm.images.load import SUFFIXES
from jvlm.infer.conversation import Conversation, Settings, Turn

MAX_QUESTION_CHARACTERS = 2000
MAX_NEW_TOKENS = 512
POLL_SECONDS, WAIT_SECONDS = 0.05, 0.25  # between looks at an answer that is made, and at one in the queue


def main() -> None:
    st.title(t("chat"))
    engine, folder, digest = service()
    talk: Conversation = st.session_state.setdefault("talk", Conversation(Path(folder).parent.name, digest))
    if talk.model_hash != digest:  # another model was chosen: what it has not said is not put into its mouth
        talk = st.session_state.talk = Conversation(Path(folder).parent.name, digest)
    settings = _settings()
    _offer_images()
    asked = st.chat_input(
        t("ask"),
        accept_file="multiple",
        file_type=[suffix[1:] for suffix in SUFFIXES],
        max_chars=MAX_QUESTION_CHARACTERS,
        submit_mode="stop",
    )
    if asked is not None:
        with told():
            _add_turn(talk, asked.text.strip(), [file.getvalue() for file in asked.files], settings)
    for number, turn in enumerate(talk.turns):
        _show(talk, number, turn, engine, folder)
    with st.sidebar:
        _keep(talk)


def _settings() -> Settings:
    with st.sidebar, st.expander(t("settings")):
        return Settings(
            max_new_tokens=st.slider(t("max_new_tokens"), 8, MAX_NEW_TOKENS, 96),
            temperature=st.slider(t("temperature"), 0.0, 2.0, 0.0, 0.1),
            top_p=st.slider(t("top_p"), 0.05, 1.0, 1.0, 0.05),
            seed=int(st.number_input(t("seed"), 0, 2**31 - 1, 0)),
        )


def _offer_images() -> None:
    """Images that the next question takes along: from the examples or the camera."""
    chosen: list[bytes] = st.session_state.setdefault("chosen", [])
    with st.sidebar:
        window_choice()
        if st.toggle(t("camera")):
            shot = st.camera_input(t("camera"), label_visibility="collapsed")
            if shot is not None and shot.file_id != st.session_state.get("shot"):  # the widget goes on holding it
                st.session_state.shot = shot.file_id
                chosen.append(shot.getvalue())
        examples = place("EXAMPLES")
        pictures = sorted(p for p in examples.glob("*") if p.suffix.lower() in SUFFIXES)[:6] if examples else []
        if pictures:
            with st.expander(t("examples")):
                for picture in pictures:
                    st.image(str(picture))
                    if st.button(t("use_example"), key=f"example-{picture.name}"):
                        chosen.append(picture.read_bytes())
    if chosen:
        st.caption(t("next_images"))
        with told():
            st.image([preview(data, 120) for data in chosen], width=120, output_format="PNG")
        if st.button(t("drop_images")):
            chosen.clear()
            st.rerun()


def _add_turn(talk: Conversation, question: str, files: list[bytes], settings: Settings) -> None:
    images = [*st.session_state.chosen, *files]
    if len(images) > MAX_IMAGES:
        st.error(f"{t('too_many')} ≤ {MAX_IMAGES}")
        return
    seen = [usable(data, st.session_state.get("window")) for data in images]
    if all(data is not None for data in seen) and (question or seen):
        talk.turns.append(Turn(question, [data for data in seen if data is not None], settings))
        st.session_state.chosen = []


def _show(talk: Conversation, number: int, turn: Turn, engine: Any, folder: str) -> None:
    with st.chat_message("user"):
        if turn.images:
            st.image([preview(data, 320) for data in turn.images], width=320, output_format="PNG")
        st.text(turn.question)
    with st.chat_message("assistant"):
        text, about = st.empty(), st.empty()
        _show_answer(turn, text, about)
        if number == len(talk.turns) - 1:
            _actions(talk, number, turn, folder)
        if not turn.finish_reason:
            with told():
                _answer(talk, number, turn, engine, text)
            _show_answer(turn, text, about)
        if turn.finish_reason and turn.answer:
            show_evidence(turn.answer, turn.images[0] if turn.images else None)


def _answer(talk: Conversation, number: int, turn: Turn, engine: Any, text: Any) -> None:
    """Let the engine answer. Whatever ends it early (Stop, another page, a closed window) frees the engine's row."""
    begin = time.monotonic()
    answer = None
    turn.finish_reason = "stopped"  # unless it comes to an end of its own
    try:
        answer = engine.submit(talk.request(number))
        while (ahead := answer.position) > 0:
            text.caption(f"{t('waiting')} {ahead}")
            time.sleep(WAIT_SECONDS)
        while not answer.done:
            time.sleep(POLL_SECONDS)
            _take(turn, answer.take(), begin)
            text.text(turn.answer)  # drawn even without news: only in drawing does a page notice that it was stopped
        _take(turn, answer.take(), begin)
        found = answer.result(timeout=60)
        turn.answer, turn.finish_reason, turn.num_tokens = found.text, found.finish_reason, found.num_tokens
    finally:
        turn.seconds = time.monotonic() - begin
        if answer is not None:
            answer.cancel()


def _take(turn: Turn, piece: str, begin: float) -> None:
    if piece:
        turn.first_seconds = turn.first_seconds or time.monotonic() - begin
        turn.answer += piece


def _show_answer(turn: Turn, text: Any, about: Any) -> None:
    if not turn.finish_reason:
        return
    text.text(turn.answer or t("empty"))
    told_end = {"length": t("cut"), "stopped": t("stopped")}.get(turn.finish_reason, "")
    told_time = (
        f"{turn.num_tokens} {t('tokens')} · {turn.seconds:.1f} {t('seconds')} · {t('first')} {turn.first_seconds:.1f}"
    )
    about.caption(f"{told_end} {told_time}".strip())


def _actions(talk: Conversation, number: int, turn: Turn, folder: str) -> None:
    """What can be done with the last answer; drawn before it is made, so that they are there after a Stop."""
    columns = st.columns(3)
    if columns[0].button(t("regenerate"), key=f"again-{number}"):
        again = turn.settings.seed + 1 if turn.settings.temperature else turn.settings.seed
        _replace(talk, number, Turn(turn.question, turn.images, Settings(**(vars(turn.settings) | {"seed": again}))))
    with columns[1].popover(t("edit")):
        question = st.text_area(t("edit"), turn.question, max_chars=MAX_QUESTION_CHARACTERS, key=f"edit-{number}")
        if st.button(t("resend"), key=f"resend-{number}"):
            _replace(talk, number, Turn(question.strip(), turn.images, turn.settings))
    with columns[2].popover(t("reproduce")):
        st.caption(t("reproduce_how"))
        st.code(f"jvlm replay conversation.jsonl {folder} --turn {number + 1}", language="sh")
    _rate(talk, number, turn)


def _replace(talk: Conversation, number: int, turn: Turn) -> None:
    talk.turns[number:] = [turn]
    st.rerun()


def _rate(talk: Conversation, number: int, turn: Turn) -> None:
    """Thumbs and a mended answer, kept only where the operator named a folder and the visitor said so."""
    reviews = place("REVIEWS")
    if reviews is None or not st.session_state.get("may_keep"):
        return
    thumb = st.feedback("thumbs", key=f"thumb-{number}-{turn.settings.seed}")
    if thumb is None:
        return
    with st.form(f"review-{number}", clear_on_submit=True):
        right = st.text_area(t("right_answer")).strip() if thumb == 0 else ""
        comment, by = st.text_input(t("comment")), st.text_input(t("by"))
        if st.form_submit_button(t("send")):
            with told():
                text = turn.answer if thumb == 1 else right or None
                add_review(
                    reviews, talk.sample(number), turn.answer, text, by=by, comment=comment, model_hash=talk.model_hash
                )
                st.success(t("kept"))


def _keep(talk: Conversation) -> None:
    if place("REVIEWS") is not None:
        told_where = t("feedback_help").format(folder=place("REVIEWS"))
        st.toggle(t("feedback"), key="may_keep", help=told_where)
    if not talk.turns:
        return
    st.caption(t("save"))
    for name, kind, written in (
        ("conversation.jsonl", "application/jsonl", talk.to_jsonl),
        ("conversation.md", "text/markdown", talk.to_markdown),
        ("conversation.html", "text/html", talk.to_html),
    ):
        st.download_button(name, written, name, kind, key=name, on_click="ignore")
    if st.button(t("clear")):
        talk.turns.clear()
        st.rerun()


main()
