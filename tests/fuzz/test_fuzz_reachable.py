"""No loader of pickles, no evaluation of text as code, no remote code and no shell stands anywhere in the package."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ALLOWED = {
    (
        "jvlm/model/pickled.py",
        "torch.load",
    ),  # `jvlm convert-weights`, weights_only, the one place that is asked for by name
    ("jvlm/config.py", "yaml.load"),  # with a loader made of yaml.SafeLoader
}
CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
LOADERS = {"pickle", "torch", "joblib", "dill", "marshal", "yaml", "cPickle", "cloudpickle"}
NAMES = ("load", "loads", "unsafe_load", "full_load", "Unpickler")
DOTTED = {f"{module}.{name}" for module in LOADERS for name in NAMES}
DOTTED |= {"os.system", "os.popen", "subprocess.getoutput", "shelve.open"}
TRUE_KEYWORDS = {"trust_remote_code", "allow_pickle", "shell"}


def _findings(path: Path) -> list[tuple[str, str]]:
    name = str(path.relative_to(ROOT))
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id in CALLS:
            found.append((name, called.id))
        if isinstance(called, ast.Attribute) and ast.unparse(called) in DOTTED:
            found.append((name, ast.unparse(called)))
        for keyword in node.keywords:
            off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if keyword.arg in TRUE_KEYWORDS and not off:
                found.append((name, str(keyword.arg)))
    return found


def test_nothing_of_the_kind_is_called(tally) -> None:
    files = [path for folder in ("jvlm", "data", "apps") for path in sorted((ROOT / folder).rglob("*.py"))]
    found = {finding for path in files for finding in _findings(path)}
    tally |= {"files_scanned": len(files), "dangerous_calls": len(found - ALLOWED)}
    assert found - ALLOWED == set()
    assert found >= ALLOWED  # what is allowed is there: the scan sees


def test_the_scan_sees_what_it_looks_for(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("test_fuzz_reachable.ROOT", tmp_path)
    bad = tmp_path / "bad.py"
    bad.write_text(
        "eval(x)\nimport pickle\npickle.loads(b)\nsubprocess.run(c, shell=True)\nload(p, trust_remote_code=a)\n"
    )
    assert {what for _, what in _findings(bad)} == {"eval", "pickle.loads", "shell", "trust_remote_code"}
