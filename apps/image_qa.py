"""One page: upload an image, ask in Japanese, read the answer.

The model folder comes from JVLM_MODEL or from the first argument. What the model wrote is shown as plain text: read
as Markdown, it could make the browser fetch images from elsewhere.
"""

import logging
import os
import sys
import threading
from typing import Any

import streamlit as st

import jvlm
from jvlm.errors import JvlmError
from jvlm.images.load import SUFFIXES, load_image
from jvlm.sample import ImageRef, Message, Sample

MAX_QUESTION_CHARACTERS = 2000
MAX_NEW_TOKENS = 128

_log = logging.getLogger("jvlm.app")


def model_folder() -> str:
    """Folder of the model to serve; empty when none was named."""
    return os.environ.get("JVLM_MODEL") or (sys.argv[1] if len(sys.argv) > 1 else "")


@st.cache_resource(show_spinner="モデルを読み込んでいます…")
def shared_model(folder: str) -> tuple[Any, threading.Lock]:
    """The model, loaded once for all visitors, and the lock that lets them take turns."""
    return jvlm.load(folder), threading.Lock()


def answer(model: Any, lock: threading.Lock, image: bytes, question: str) -> tuple[str, bool]:
    """The model's answer and whether it came to its end."""
    sample = Sample("question", [Message("user", [0, question])], [ImageRef(data=image)])
    with lock:
        (generation,) = model.generate([sample], max_new_tokens=MAX_NEW_TOKENS)
    return generation.text, generation.finish_reason == "stop"


def main() -> None:
    st.set_page_config(page_title="jvlm 画像への質問")
    st.title("画像への質問")
    st.caption("回答は誤っていることがあります。研究用であり、診断には使えません。")
    folder = model_folder()
    if not folder:
        st.error("モデルのフォルダーが指定されていません。jvlm app フォルダー で起動してください。")
        return
    try:
        model, lock = shared_model(folder)
    except Exception:
        _log.exception("cannot load the model")
        st.error("モデルを読み込めませんでした。詳しくはサーバーの記録を見てください。")
        return

    upload = st.file_uploader("画像", type=[suffix[1:] for suffix in SUFFIXES])
    if upload is None:
        return
    data = upload.getvalue()
    try:
        image = load_image(data)
    except JvlmError as error:
        st.error("この画像は使えません。")
        st.text(error.what)
        return
    st.image(image)

    with st.form("question"):
        question = st.text_input("質問", max_chars=MAX_QUESTION_CHARACTERS, placeholder="何が写っていますか。").strip()
        asked = st.form_submit_button("質問する")
    if not asked:
        return
    if not question:
        st.error("質問を書いてください。")
        return
    try:
        with st.spinner("考えています…"):
            text, whole = answer(model, lock, data, question)
    except JvlmError as error:
        st.error("回答できませんでした。")
        st.text(error.what)
    except Exception:
        _log.exception("cannot answer")
        st.error("回答できませんでした。詳しくはサーバーの記録を見てください。")
    else:
        st.text(text or "(空の回答)")
        if not whole:
            st.caption("回答が長いため、途中で終わっています。")


main()
