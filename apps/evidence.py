"""The panel under an answer: where its words, and pictures like its picture, stand in the training data."""

from typing import Any

import streamlit as st
from jvlm_apps.shared import place, t, told


@st.cache_resource(show_spinner=False)
def _trace(folder: str) -> Any:
    from pathlib import Path

    from jvlm.trace import Trace

    return Trace.open(Path(folder))


def show_evidence(answer: str, image: bytes | None) -> None:
    """Draws nothing where no index was named."""
    folder = place("TRACE")
    if folder is None:
        return
    with st.expander(t("evidence")), told():
        found = _trace(str(folder)).evidence(answer, image=image)
        if not (found.spans or found.passages or found.images):
            st.caption(t("evidence_none"))
        for name, rows in (("evidence_spans", found.spans), ("evidence_passages", found.passages)):
            if rows:
                st.caption(t(name))
            for row in rows:
                _row(row)
        if found.images:
            st.caption(t("evidence_images"))
        for row in found.images:
            if row.thumbnail is not None:
                st.image(row.thumbnail, width=120)
            _row(row)


def _row(row: Any) -> None:
    st.text(row.text)
    first, last = row.steps if row.steps else ("–", "–")
    st.text(f"{row.source} · {row.licence} · {row.id} · {t('steps')} {first}–{last}")
