"""Runs the commands of docs/hospital.md in this process, one after the other: ``driver.py PAGE``.

Extra arguments stand in extra.json by command. The app is opened by Streamlit's own test driver."""

import json
import os
import re
import shlex
import socket
import sys
import time
from pathlib import Path


def commands(page: Path) -> list[list[str]]:
    """Lines of the blocks of `sh`, but for `export`, which sets the environment."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def guarded() -> None:
    with socket.socket() as outside:
        try:
            outside.connect(("192.0.2.1", 80))
        except BaseException as error:
            assert type(error).__name__ == "NetworkUse", repr(error)
        else:
            raise AssertionError("the guard of sockets is not there")


def show(model: str) -> None:
    """The page on this model, asked once about a picture."""
    from jvlm_apps.launch import streamlit_flags
    from streamlit.testing.v1 import AppTest

    assert "--server.address=127.0.0.1" in streamlit_flags()
    os.environ["JVLM_MODEL"] = str(Path(model).resolve())
    from jvlm.assets import asset

    page = AppTest.from_file(str(asset("apps", "image_qa.py")), default_timeout=60).run()
    assert not page.exception, page.exception
    assert page.title or page.header or page.chat_input
    print("app opened", flush=True)


def main(page: Path, extra: dict[str, list[str]]) -> None:
    guarded()
    from jvlm.cli import app

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
        print(f"{time.perf_counter() - started:5.1f} s  {' '.join(words)}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(Path("extra.json").read_text()))
