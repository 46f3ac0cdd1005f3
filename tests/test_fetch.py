"""Fetching the files of a card, from a server on the loopback address."""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.request import Request

import pytest

from jvlm.cli import app
from jvlm.datasets import cards, fetch_named, named
from jvlm.errors import DataError, UsageError
from jvlm.fetch import _CheckedRedirects
from jvlm.files import sha256_bytes, sha256_file

BODY = b"published" * 200_000  # more than one block
HASH = sha256_bytes(BODY)


class Server(ThreadingHTTPServer):
    """Gives `bodies` by path, counts what was asked for; some paths misbehave."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies = {"/set/a.json": BODY, "/set/b%20b.json": b"second"}
        self.asked: Counter[str] = Counter()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path == "/torn":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"only this")
        elif (body := self.server.bodies.get(self.path.partition("?")[0])) is not None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            self.send_error(404)

    def log_message(self, *arguments: object) -> None:
        """The test's output stays clean."""


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def card(monkeypatch):
    made = {"name": "made", "title": "A made set", "licence": "CC0-1.0", "source": "nowhere", "files": []}
    monkeypatch.setattr(named, "cards", lambda: {"made": made})
    return made


def fetch(tmp_path):
    said = []
    return fetch_named("made", tmp_path / "out", said.append), said


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_files_are_fetched_verified_and_recorded(tmp_path, server, card):
    card["files"] = [
        {"url": server.url("/set/a.json?ref=1"), "sha256": HASH, "bytes": len(BODY), "path": "data/train/a.json"},
        {"url": server.url("/set/b%20b.json"), "sha256": None, "bytes": None},
    ]
    card["then"] = "Now unpack it."
    report, said = fetch(tmp_path)
    assert report | {"out": ""} == {
        **{"name": "made", "licence": "CC0-1.0", "out": ""},
        **{"fetched": 2, "present": 0, "unverified": 1},
    }
    assert (tmp_path / "out" / "data" / "train" / "a.json").read_bytes() == BODY
    assert (tmp_path / "out" / "b b.json").read_bytes() == b"second"
    assert "licence: CC0-1.0" in said[0]
    assert any("b b.json" in line and "could not be verified" in line for line in said)
    assert said[-1] == "Now unpack it."
    record = json.loads((tmp_path / "out" / "fetched.json").read_text())
    assert record["licence"] == "CC0-1.0"
    assert record["files"]["data/train/a.json"]["verified"] is True
    assert record["files"]["b b.json"] == {
        **{"url": server.url("/set/b%20b.json"), "sha256": sha256_bytes(b"second")},
        **{"bytes": 6, "verified": False},
    }
    assert files_in(tmp_path / "out") == ["b b.json", "data/train/a.json", "fetched.json"]


def test_what_is_there_is_not_fetched_again(tmp_path, server, card):
    card["files"] = [{"url": server.url("/set/a.json"), "sha256": HASH}, {"url": server.url("/set/b%20b.json")}]
    fetch(tmp_path)
    report, _ = fetch(tmp_path)
    assert (report["fetched"], report["present"], report["unverified"]) == (0, 2, 1)
    assert set(server.asked.values()) == {1}
    (tmp_path / "out" / "a.json").write_bytes(b"spoilt")
    (tmp_path / "out" / "b b.json").write_bytes(b"spoilt")
    assert fetch(tmp_path)[0]["fetched"] == 2
    assert sha256_file(tmp_path / "out" / "a.json") == HASH


def test_a_wrong_hash_names_both_and_keeps_what_was_there(tmp_path, server, card):
    card["files"] = [{"url": server.url("/set/a.json"), "sha256": "0" * 64}]
    with pytest.raises(DataError, match=f"{HASH}.*{'0' * 64}"):
        fetch(tmp_path)
    assert files_in(tmp_path) == []
    (tmp_path / "out" / "a.json").write_bytes(b"older")
    with pytest.raises(DataError, match="published is"):
        fetch(tmp_path)
    assert (tmp_path / "out" / "a.json").read_bytes() == b"older"


def test_a_wrong_size_is_refused(tmp_path, server, card):
    card["files"] = [{"url": server.url("/set/a.json"), "bytes": 5}]
    with pytest.raises(DataError, match=f"{len(BODY)} bytes came, published are 5"):
        fetch(tmp_path)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/none", "the server answered 404"),
        ("/torn", "ended after 9 of 100 bytes"),
        ("/to/file:///etc/passwd", "is not allowed"),
        ("/to/ftp://127.0.0.1/x", "not an http or https address"),
    ],
)
def test_what_a_server_may_do_is_bad_data(tmp_path, server, card, path, what):
    card["files"] = [{"url": server.url("/set/a.json"), "sha256": HASH}, {"url": server.url(path), "path": "b"}]
    with pytest.raises(DataError, match=what) as caught:
        fetch(tmp_path)
    assert caught.value.where
    assert files_in(tmp_path) == ["out/a.json", "out/fetched.json"], "what came before stays"


def test_a_redirect_within_http_is_followed(tmp_path, server, card):
    card["files"] = [{"url": server.url("/to//set/a.json"), "sha256": HASH, "path": "a"}]
    assert fetch(tmp_path)[0]["fetched"] == 1


def test_a_redirect_from_https_to_http_is_refused():
    def redirect(old, new):
        return _CheckedRedirects().redirect_request(Request(old), None, 302, "Found", {}, new)

    with pytest.raises(DataError, match="redirects from https to http://b/x"):
        redirect("https://a/x", "http://b/x")
    for old, new in (("https://a/x", "https://b/x"), ("http://a/x", "https://b/x"), ("http://a/x", "http://b/x")):
        assert redirect(old, new).full_url == new


def test_without_a_server_the_error_says_so(tmp_path, card, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    card["files"] = [{"url": f"http://127.0.0.1:{port}/a"}]
    with pytest.raises(DataError, match=r"cannot be downloaded: .*refused.*check the connection"):
        fetch(tmp_path)
    card["files"] = [{"url": "file:///etc/passwd"}]
    with pytest.raises(DataError, match="not an http or https address"):
        fetch(tmp_path)
    assert files_in(tmp_path) == []


def test_a_set_that_is_not_downloaded_says_where_it_is(tmp_path, card):
    card["how"] = "ask its publisher"
    said = []
    with pytest.raises(UsageError, match="ask its publisher"):
        fetch_named("made", tmp_path / "out", said.append)
    assert "CC0-1.0" in said[0]
    with pytest.raises(UsageError, match="no data set 'other'"):
        fetch_named("other", tmp_path / "out", print)


def test_a_record_of_something_else_is_refused(tmp_path, card):
    card["files"] = [{"url": "http://127.0.0.1:1/a"}]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "fetched.json").write_text("[]")
    with pytest.raises(DataError, match="not a record of downloaded files"):
        fetch(tmp_path)


def test_the_command_prints_the_licence_first(tmp_path, server, card):
    from typer.testing import CliRunner

    card["files"] = [{"url": server.url("/set/a.json"), "sha256": HASH}]
    arguments = ["data", "fetch", "made", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert done.output.startswith("A made set\nlicence: CC0-1.0\n")
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert json.loads(done.output)["present"] == 1


def test_cards_name_what_can_be_fetched_and_how_to_get_the_rest():
    for name, card in cards().items():
        paths = []
        for file in card.get("files", []):
            assert set(file) <= {"url", "path", "sha256", "bytes"}
            assert file["url"].startswith("https://")
            assert file["sha256"] is None or len(bytes.fromhex(file["sha256"])) == 32
            paths.append(file.get("path") or file["url"].rpartition("/")[2])
        assert len(set(paths)) == len(paths)
        assert not [path for path in paths if ".." in path or path.startswith("/") or "?" in path]
        if name in ("llava_instruct_ja", "vqa_rad", "roco", "wikipedia_ja"):
            assert not paths
            assert f"jvlm data build {name} --source" in card["how"]
    assert {name for name, card in cards().items() if card.get("files")} == {
        "stair_captions",
        "jaquad",
        "llm_jp_corpus",
    }
