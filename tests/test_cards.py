"""Cards: filled from the trail, the recipe and the data; carried from model to model; harmless whatever data say."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from jvlm import audit, cards
from jvlm.errors import DataError
from jvlm.files import new_folder, read_json, verify_folder, write_json, write_text
from jvlm.images.shards import write_shards
from jvlm.licences import Part
from jvlm.sample import Message, Sample

PARTS = [
    {"name": "aozora", "licence": "Public domain works only", "amount": 12, "unit": "documents"},
    {"name": "wikipedia", "licence": "CC BY-SA 4.0", "amount": 3400, "unit": "documents"},
    {"name": "photos", "licence": "CC BY 4.0 (© A. Nyone)", "amount": 7, "unit": "samples"},
    {"name": "llm-jp/llm-jp-3-1.8b", "licence": "apache-2.0", "amount": 0, "unit": "model"},
]


def make_run(folder: Path, parts: list[dict[str, Any]], **metrics: Any) -> Path:
    """A run with one stage done and its model."""
    write_text(folder / "recipe.yaml", "name: mine\nseed: 7\n")
    audit.started(folder, "name: mine\n", 7)
    with new_folder(folder / "pretrain" / "model") as new:
        write_json(new / "config.json", {"model_type": "llama"})
    write_json(folder / "pretrain" / "done.json", {"stage": "pretrain"})
    audit.stage_done(folder, "pretrain", {"loss": 2.5, "nested": {"x": 1}, **metrics}, parts)
    return folder


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    """Front matter and text, read by the plainest means."""
    _, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), text


def test_a_models_card_says_what_the_trail_says(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", PARTS, bpc_model=1.25)
    model = run / "pretrain" / "model"
    cards.write_model_card(run, model, ["pretrain"], ["ja", "en"])
    front, text = card_of(model)
    assert front == {
        "language": ["ja", "en"],
        "license": "cc-by-sa-4.0",
        "library_name": "jvlm",
        "pipeline_tag": "text-generation",
        "base_model": ["llm-jp/llm-jp-3-1.8b"],
        "datasets": ["aozora", "wikipedia", "photos"],
        "metrics": ["loss", "bpc_model"],
    }
    trail = audit.rows(run)
    for told in (trail[0]["recipe_sha256"], trail[0]["code"]["sha256"], trail[1]["hash"], trail[1]["at"], "1.25"):
        assert told in text
    assert "| wikipedia | CC BY-SA 4.0 | 3,400 documents |" in text
    named = text.split("To be named:")[1].split("##")[0]
    assert "A. Nyone" in named
    assert "aozora" not in named
    assert "diagnosis" in text


def test_of_a_run_that_goes_on_the_card_stays(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", PARTS)
    model = run / "pretrain" / "model"
    cards.write_model_card(run, model, ["pretrain"], ["ja"])
    before = (model / "README.md").read_bytes()
    audit.started(run, "another", 8)
    cards.write_model_card(run, model, ["pretrain"], ["ja"])
    assert (model / "README.md").read_bytes() == before


def test_headline_figures_come_before_a_stages_own(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", PARTS)
    audit.stage_done(run, "report", {"headline": {"vqa": 0.91, "absent": None}})
    cards.write_model_card(run, run / "pretrain" / "model", ["pretrain"], ["ja"])
    front, text = card_of(run / "pretrain" / "model")
    assert front["metrics"] == ["vqa"]
    assert "| vqa | 0.91 |" in text


def test_what_is_not_recorded_is_closed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [])
    cards.write_model_card(run, run / "pretrain" / "model", ["pretrain"], ["ja"])
    front, text = card_of(run / "pretrain" / "model")
    assert (front["license"], front["license_name"]) == ("other", "closed")
    assert "do not give this away" in text
    with pytest.raises(DataError, match="'prefer' is not in the trail"):
        cards.write_model_card(run, run / "pretrain" / "model", ["pretrain", "prefer"], ["ja"])


def test_the_published_card_belongs_to_the_trail_and_may_be_added_to_elsewhere(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", PARTS)
    with new_folder(run / "model") as new:
        write_json(new / "config.json", {"model_type": "llama"})
    cards.write_model_card(run, run / "model", ["pretrain"], ["ja"])
    audit.published(run)
    assert audit.verify(run) == []
    card = run / "model" / "README.md"
    card.write_text(card.read_text().replace("cc-by-sa-4.0", "cc0-1.0"))
    assert audit.verify(run) == ["model/README.md: differs from the trail"]
    verify_folder(run / "model")  # the model can be loaded all the same


NASTY = "x | y\n## Heading <script>alert(1)</script> ![a](http://example.invalid/b) [c](d) `e` ---\nlicense: mit"


def test_names_from_data_are_text_and_no_markup(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [{"name": NASTY, "licence": NASTY + " CC BY-NC", "amount": 1, "unit": "samples"}])
    cards.write_model_card(run, run / "pretrain" / "model", ["pretrain"], ["ja"])
    front, text = card_of(run / "pretrain" / "model")
    assert front["license"] == "cc-by-nc-4.0"
    assert front["datasets"] == [" ".join(NASTY.split())]
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert [line for line in headings if "Heading" in line] == []
    assert not re.search(r"(?<!\\)<script|(?<!\\)!\[|(?<!\\)\]\(", text)
    (row,) = [line for line in text.splitlines() if line.startswith("| x")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 4


def directory(folder: Path, card: str | None, kind: str = "llama") -> Path:
    write_json(folder / "config.json", {"model_type": kind})
    if card is not None:
        write_text(folder / "README.md", card)
    return folder


def test_what_is_made_of_models_owes_what_they_owe(tmp_path: Path) -> None:
    first = "license: [apache-2.0, cc-by-nc-4.0]\nlanguage: ja"
    second = "license: other\nlicense_name: closed\nlanguage: [ja, en]"
    one = directory(tmp_path / "hub" / "one", f"---\n{first}\n---\n# One\n\nOf one.\n")
    two = directory(tmp_path / "hub" / "two", f"---\n{second}\n---\nOf two.")
    out = directory(tmp_path / "out", None, "llava")
    cards.carry_card([one, two], out, "Combined.")
    front, text = card_of(out)
    assert (front["license"], front["license_name"]) == ("other", "closed, cc-by-nc-4.0")
    assert front["base_model"] == ["hub/one", "hub/two"]
    assert front["language"] == ["ja", "en"]
    assert front["pipeline_tag"] == "image-text-to-text"
    assert "Of one." in text
    assert "Of two." in text
    again = directory(tmp_path / "again", None)
    cards.carry_card([out], again, "Exported.")  # nothing is lost on the way
    assert card_of(again)[0]["license_name"] == "closed, cc-by-nc-4.0"


@pytest.mark.parametrize(
    "card",
    [
        None,
        "",
        "no front matter",
        "---\nlicense: [\n---\n",
        "---\n- a\n---\n",
        "---\nlicense: {a: b}\n---\n",
        "---\nlicense: 3\nlanguage: false\ndate: 2026-99-99\n---\n",
        "---\n" + "[" * 5000 + "\n---\n",
        "---\n" + "- " * 5000 + "\n---\n",
        "---\n" + "x: " + "y" * 100_000 + "\n---\n",
        "---\na: &a [x]\nb: &b [*a, *a]\nlicense: [*b, *b]\n---\n",
        "\udcff",
    ],
)
def test_a_card_that_says_nothing_clear_leaves_the_model_closed(tmp_path: Path, card: str | None) -> None:
    folder = directory(tmp_path / "m" / "odd", None)
    if card is not None:
        (folder / "README.md").write_bytes(card.encode("utf-8", "surrogateescape"))
    assert cards.model_part(folder) == Part("m/odd", "", 0, "model")
    out = directory(tmp_path / "out", None)
    cards.carry_card([folder], out, "Exported.")
    assert card_of(out)[0]["license_name"] == "closed"


def test_a_sets_card_is_rendered_from_its_record(tmp_path: Path) -> None:
    samples = [
        Sample(str(n), [Message("document", ["猫"])], [], meta={"source": s, "licence": w} if s else {})
        for n, (s, w) in enumerate([("a", "CC BY 4.0"), ("a", "CC BY 4.0"), ("b", "CC BY-NC 4.0"), ("", "")])
    ]
    write_shards(iter(samples), tmp_path / "sets" / "mine", about={"licence": "MIT", "source": "https://example.org"})
    card = read_json(tmp_path / "sets" / "mine" / "dataset.json")
    assert card["origins"] == {"a": {"CC BY 4.0": 2}, "b": {"CC BY-NC 4.0": 1}, "": {"": 1}}
    front, text = card_of(tmp_path / "sets" / "mine")
    assert front == {"license": "cc-by-nc-4.0", "size_categories": ["n<1K"]}
    for told in (card["fingerprint"], "| a | CC BY 4.0 | 2 samples |", "| this set | MIT | 1 samples |", "commercial"):
        assert told in text
    verify_folder(tmp_path / "sets" / "mine")


def test_sizes_in_hugging_faces_words() -> None:
    given = (1, 999, 1000, 12_345, 10**8)
    assert [cards._size(n) for n in given] == ["n<1K", "n<1K", "1K<n<10K", "10K<n<100K", "n>100M"]
