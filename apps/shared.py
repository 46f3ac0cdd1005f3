"""What the pages share: the one engine, the side bar, images as they come from a visitor, and how errors are shown.

What a model or a file says is shown by `st.text`, never as Markdown, which could make a browser fetch addresses.
"""

import io
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st
from jvlm_apps.words import LANGUAGES, word

import jvlm
from jvlm.errors import JvlmError
from jvlm.images.dicom import is_dicom, privacy_findings
from jvlm.images.load import load_image
from jvlm.images.window import CT_WINDOWS
from jvlm.infer.conversation import png
from jvlm.infer.identity import model_hash
from jvlm.infer.service import Busy, Service

MAX_IMAGES = 4
_log = logging.getLogger("jvlm.app")


def t(name: str) -> str:
    """A phrase of the pages in the visitor's language."""
    return word(name, st.session_state.get("language", next(iter(LANGUAGES))))


def place(name: str) -> Path | None:
    """The folder or file that `jvlm app` was given for `name` (EXAM, RESULTS, REVIEWS, TRACE, EXAMPLES)."""
    value = os.environ.get(f"JVLM_{name}")
    return Path(value) if value else None


def folders() -> list[str]:
    """The model directories to choose from."""
    return [folder for folder in os.environ.get("JVLM_MODELS", "").split(os.pathsep) if folder]


@st.cache_resource(show_spinner=False)
def _service(folder: str) -> tuple[Service, str]:
    """A model's one engine, for all visitors, and the hash of its directory."""
    return Service(jvlm.load(folder)), model_hash(Path(folder))


def service() -> tuple[Service, str, str]:
    """The engine of the model that the visitor chose, its folder, and the hash of it. Stops the page without one."""
    if not folders():
        st.error(t("no_model"))
        st.stop()
    folder = st.session_state.get("model", folders()[0])
    try:
        with st.spinner(t("loading")):
            engine, digest = _service(folder)
    except Exception:
        _log.exception("cannot load the model")
        st.error(t("load_failed"))
        st.stop()
    return engine, folder, digest


def side_bar() -> None:
    """Language and model; the pages add their own settings below."""
    with st.sidebar:
        st.radio(t("language"), LANGUAGES, format_func=LANGUAGES.__getitem__, key="language", horizontal=True)
        if len(folders()) > 1:
            st.selectbox(
                t("model"), folders(), format_func=lambda folder: "/".join(Path(folder).parts[-2:]), key="model"
            )
        st.caption(t("disclaimer"))


@contextmanager
def told() -> Iterator[None]:
    """Errors inside become a message without internals; what is not the visitor's is logged under a number."""
    try:
        yield
    except Busy:
        st.warning(t("busy"))
    except JvlmError as error:
        st.error(t("refused"))
        st.text(error.what)
    except Exception as error:
        if type(error).__module__.startswith("streamlit."):
            raise  # how streamlit ends a run; not an error
        number = secrets.token_hex(4)
        _log.exception("error %s", number)
        st.error(f"{t('failed')} {number}")


@st.cache_data(show_spinner=False, max_entries=200)
def preview(data: bytes, width: int) -> bytes:
    """A picture as it is drawn `width` wide, PNG: made once, not at every press of a button on the page.

    A wider one Streamlit would make smaller itself, each time.
    """
    image, buffer = load_image(data), io.BytesIO()
    image.thumbnail((width, image.height))
    image.save(buffer, "PNG")
    return buffer.getvalue()


def window_choice() -> str | None:
    """The window in which DICOM files are to be shown; None for their own."""
    return st.selectbox(
        t("window"),
        [None, *CT_WINDOWS],
        format_func=lambda name: t("window_own") if name is None else name,
        key="window",
    )


def usable(data: bytes, window: str | None) -> bytes | None:
    """An uploaded image as the model is to see it: itself, or a DICOM's first frame in a window; None, told, if bad."""
    try:
        if not is_dicom(data):
            load_image(data)
            return data
        found = privacy_findings(data)
        if found:
            st.warning(t("patient_tags"))
            st.text("\n".join(found))
        return png(data, window)
    except JvlmError as error:
        st.error(t("bad_image"))
        st.text(error.what)
    return None
