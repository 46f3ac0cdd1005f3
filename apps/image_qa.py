"""The app's entry: language and model on the side, three pages beside each other.

Places come from the environment, as `jvlm app` sets it: JVLM_MODELS (folders, separated like PATH), JVLM_EXAM,
JVLM_RESULTS, JVLM_REVIEWS, JVLM_TRACE, JVLM_EXAMPLES. The pages call infer, eval and trace; they hold no logic.
"""

from pathlib import Path

import streamlit as st
from jvlm_apps.shared import side_bar, t

HERE = Path(__file__).parent

st.set_page_config(page_title="jvlm", layout="centered", initial_sidebar_state="auto")
side_bar()
st.navigation(
    [
        st.Page(HERE / "chat_page.py", title=t("chat"), url_path="chat", default=True),
        st.Page(HERE / "exam_page.py", title=t("exam"), url_path="exam"),
        st.Page(HERE / "caption_page.py", title=t("captions"), url_path="captions"),
    ]
).run()
