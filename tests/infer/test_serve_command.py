"""`jvlm serve`: what it listens to, whom it lets in, and what it says when it starts."""

import socket
import sys

import pytest
import uvicorn
from server import ask, running
from tiny import make_model

from jvlm import cli
from jvlm.errors import EXIT_USAGE
from jvlm.infer.serve import run
from jvlm.infer.serve.guard import Guard
from jvlm.infer.serve.run import is_loopback
from jvlm.model.directory import save_model


@pytest.fixture(scope="module")
def folder(tokenizer, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve") / "small-model"
    save_model(folder, make_model(tokenizer), processor)
    return folder


@pytest.fixture
def start(monkeypatch, capsys, folder):
    """Runs the command up to where it would listen: (exit code, errors, uvicorn's settings, key, hosts, /v1/models)."""
    monkeypatch.delenv("JVLM_API_KEY", raising=False)

    def run(*options):
        seen = {}

        def listen(app, **settings):
            (guard,) = [one for one in app.user_middleware if one.cls is Guard]
            seen.update(settings=settings, **guard.kwargs)
            guard.kwargs.update(key=None, hosts=None)
            with running(app) as url:
                seen["models"] = ask("GET", f"{url}/v1/models")[1]

        monkeypatch.setattr("jvlm.infer.serve.run.check_free", lambda host, port: None)
        monkeypatch.setattr(uvicorn, "run", listen)
        monkeypatch.setattr(sys, "argv", ["jvlm", "serve", str(folder), *options])
        code = 0
        try:
            cli.main()
        except SystemExit as error:
            code = error.code or 0
        return code, capsys.readouterr().err, seen

    return run


def test_by_itself_it_listens_on_this_machine_alone(start):
    code, errors, seen = start()
    assert code == 0
    assert (seen["settings"]["host"], seen["settings"]["port"]) == ("127.0.0.1", 8000)
    assert seen["settings"]["access_log"] is False
    assert seen["hosts"] == {"127.0.0.1", "localhost", "::1"}
    assert seen["key"] is None
    assert "warning" not in errors
    assert "serving small-model at http://127.0.0.1:8000/v1" in errors
    assert [one["id"] for one in seen["models"]["data"]] == ["small-model"]


def test_elsewhere_without_a_key_it_warns(start, tmp_path, monkeypatch):
    _, errors, seen = start("--host", "0.0.0.0", "--port", "81", "--name", "mine")
    assert "warning: anybody who reaches this address can ask; give an API key" in errors
    assert seen["hosts"] is None
    assert [one["id"] for one in seen["models"]["data"]] == ["mine"]
    (tmp_path / "key").write_text("s3cret\n")
    _, errors, seen = start("--host", "::", "--api-key-file", str(tmp_path / "key"), "--allow-host", "Vision.example")
    assert "warning" not in errors
    assert "http://[::]:8000/v1" in errors
    assert seen["key"] == "s3cret"
    assert "vision.example" in seen["hosts"]
    assert "s3cret" not in errors
    monkeypatch.setenv("JVLM_API_KEY", "from-the-environment")
    assert start("--host", "0.0.0.0")[2]["key"] == "from-the-environment"


def test_how_the_model_is_loaded(start, monkeypatch):
    seen, load = [], run.load_model
    monkeypatch.setattr(run, "load_model", lambda folder, **options: seen.append(options) or load(folder))
    for options in ((), ("--weights", "int8"), ("--weights", "int4", "--compile")):
        code, told, _ = start(*options)
        assert (code, "compiling" in told) == (0, "--compile" in options)
    assert [tuple(one.values()) for one in seen] == [("full", False), ("int8", False), ("int4", True)]


def test_mistakes_are_told(start, tmp_path):
    for content in (None, "", "two words"):
        file = tmp_path / "key"
        if content is not None:
            file.write_text(content)
        code, errors, seen = start("--api-key-file", str(file))
        assert (code, seen) == (2, {})
        assert errors.startswith("jvlm: error: ")
        assert "API key" in errors


def test_a_port_that_is_taken_is_told_before_a_model_is_loaded(tmp_path, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(sys, "argv", ["jvlm", "serve", str(tmp_path / "none"), "--port", str(port)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == EXIT_USAGE
    told = capsys.readouterr().err
    assert f"127.0.0.1:{port}: cannot listen: Address already in use" in told
    assert "serving" not in told
    run.check_free("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("x.y", False)],
)
def test_what_is_this_machine(host, loopback):
    assert is_loopback(host) == loopback
