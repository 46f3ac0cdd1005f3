"""The commands of docs/hospital.md, one after the other, in this process; as a program: ``hospital_page.py PAGE``.

More arguments stand in extra.json by command. The app is opened by Streamlit's own test driver.
"""

import json
import os
import re
import shlex
import socket
import sys
import time
from pathlib import Path


def commands(page: Path) -> list[list[str]]:
    """Lines of the blocks of `sh`; `export` sets the environment."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def guarded() -> None:
    """AssertionError where this process may reach other machines."""
    refused = "nothing"
    with socket.socket() as outside:
        try:
            outside.connect(("192.0.2.1", 80))
        except BaseException as error:
            refused = type(error).__name__
    assert refused == "NetworkUse"


def show(model: str) -> str:
    """The page on this model, asked once; what it answers."""
    import streamlit
    from jvlm_apps.launch import streamlit_flags
    from streamlit.testing.v1 import AppTest

    from jvlm.assets import asset

    assert "--server.address=127.0.0.1" in streamlit_flags()
    os.environ["JVLM_MODELS"] = str(Path(model).resolve())
    streamlit.cache_resource.clear()
    try:
        page = AppTest.from_file(str(asset("apps", "image_qa.py")), default_timeout=60).run()
        page.slider[0].set_value(8)  # tokens of the answer
        page.run()
        page.chat_input[0].set_value("所見は。").run()
        assert not page.exception, page.exception
        assert not page.error, page.error
        question, answer, *_ = [element.value for element in page.text]
        assert question == "所見は。"
        return answer
    finally:
        streamlit.cache_resource.clear()


def run_page(page: Path, extra: dict[str, list[str]]) -> str:
    """Run all; what was printed for each, with its seconds. AssertionError where one ends as it should not."""
    from jvlm.cli import app

    guarded()
    told = []
    for words in commands(page):
        started = time.perf_counter()
        if words[0] == "export":
            os.environ.update(word.split("=", 1) for word in words[1:])
            continue
        assert words[0] == "jvlm", words
        if words[1] == "app":
            show(words[2])
        else:
            code = app(words[1:] + extra.get(words[1], []), standalone_mode=False) or 0
            # one line of the table is faulty, on purpose
            assert code == (4 if words[1:4] == ["data", "build", "hospital"] else 0), (words, code)
        told.append(f"{time.perf_counter() - started:5.1f} s  {' '.join(words)}")
        print(told[-1], flush=True)
    return "\n".join(told)


if __name__ == "__main__":
    run_page(Path(sys.argv[1]), json.loads(Path("extra.json").read_text()))
