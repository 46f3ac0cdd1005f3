"""Captions for a handful of images: the model proposes, a person accepts or mends, the record says who and when."""

import base64
from typing import Any

import streamlit as st
from jvlm_apps.shared import place, service, t, told

from jvlm.datasets.reviews import add_review
from jvlm.errors import DataError, JvlmError
from jvlm.images.archive import images_in_zip
from jvlm.images.load import SUFFIXES
from jvlm.infer.conversation import png
from jvlm.infer.types import Request
from jvlm.sample import CAPTION_PROMPT, ImageRef, Message, Sample

MAX_ITEMS = 200
MAX_PROMPT_CHARACTERS = 500


def main() -> None:
    st.title(t("captions"))
    engine, _, digest = service()
    kinds = [suffix[1:] for suffix in SUFFIXES]
    files = st.file_uploader(t("drop_folder"), [*kinds, "zip"], accept_multiple_files=True)
    prompt = st.text_input(t("prompt"), CAPTION_PROMPT, max_chars=MAX_PROMPT_CHARACTERS)
    if files and st.button(t("run"), type="primary"):
        with told():
            st.session_state.proposals = _propose(engine, _images(files), prompt)
            st.session_state.batch = st.session_state.get("batch", 0) + 1
    if st.session_state.get("proposals"):
        _review(st.session_state.proposals, digest)


def _images(files: list[Any]) -> list[tuple[str, bytes]]:
    """Names and bytes, those in archives too. Raises DataError above the limit of their number."""
    found: list[tuple[str, bytes]] = []
    for file in files:
        if file.name.lower().endswith(".zip"):
            found += images_in_zip(file.getvalue(), MAX_ITEMS, where=file.name)
        else:
            found.append((file.name, file.getvalue()))
    if len(found) > MAX_ITEMS:
        raise DataError(f"{len(found)} images are more than {MAX_ITEMS}", fix="use `jvlm caption` for many")
    return found


def _propose(engine: Any, images: list[tuple[str, bytes]], prompt: str) -> list[dict[str, Any]]:
    """A row for each image, in order; a bad one has a status and no text."""
    bar = st.progress(0.0)
    rows = []
    for done, (name, data) in enumerate(images, 1):
        sample = Sample(name, [Message("user", [0, prompt])], [ImageRef(data=data)])
        row: dict[str, Any] = {"name": name, "sample": sample, "text": "", "status": "ok", "uri": None}
        try:
            row["uri"] = f"data:image/png;base64,{base64.b64encode(png(data)).decode()}"
            row["text"] = engine.submit(Request(sample)).result(timeout=300).text
        except JvlmError as error:  # this picture's, not all of theirs
            row["status"] = error.what
        except TimeoutError:
            row["status"] = t("too_slow")
        rows.append(row)
        bar.progress(done / len(images), f"{done} / {len(images)}")
    return rows


def _review(rows: list[dict[str, Any]], digest: str) -> None:
    shown = [
        {"image": row["uri"], "name": row["name"], "text": row["text"], "accept": False, "status": row["status"]}
        for row in rows
    ]
    edited = st.data_editor(
        shown,
        column_config={
            "image": st.column_config.ImageColumn(t("caption_image")),
            "name": st.column_config.TextColumn(disabled=True),
            "text": st.column_config.TextColumn(t("caption_text"), width="large"),
            "accept": st.column_config.CheckboxColumn(t("accept")),
            "status": st.column_config.TextColumn(t("status"), disabled=True),
        },
        hide_index=True,
        key=f"editor-{st.session_state.batch}",  # else ticks and texts of the last pictures would stand at these
    )
    folder = place("REVIEWS")
    if folder is None:
        st.info(t("no_reviews"))
        return
    by = st.text_input(t("by"))
    if not st.button(t("save_set")):
        return
    if not by.strip():
        st.error(t("name_needed"))
        return
    saved = 0
    with told():
        for row, now in zip(rows, edited, strict=True):
            if now["accept"] and row["status"] == "ok":
                add_review(folder, row["sample"], row["text"], now["text"], by=by.strip(), model_hash=digest)
                saved += 1
        st.success(f"{saved} {t('saved_set')}")
        st.code(f"jvlm data build {folder} --out shards/reviewed", language="sh")


main()
