"""The whole way of a caption: a model proposes, a person mends it, `jvlm data build`, `instruct` trains on it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("streamlit.testing.v1", reason="the app extra is not installed")

from fake_service import FakeService, open_app, png
from tiny import PROJECTOR, VISION, make_model

from jvlm.cli import app
from jvlm.config import load_config
from jvlm.datasets.reviews import add_review, read_reviews
from jvlm.images.shards import open_shards
from jvlm.infer.generate import VisionLanguageModel, load_model
from jvlm.infer.types import Request
from jvlm.model.directory import save_model
from jvlm.model.processor import IGNORED, Processor
from jvlm.recipe import Recipe
from jvlm.sample import CAPTION_PROMPT, ImageRef, Message, Sample
from jvlm.stages import vision_language
from jvlm.stages.context import StageContext
from jvlm.train.objectives.next_token import NextToken

PROPOSED = {"red": "赤い丸です。", "blue": "青い丸です。", "green": "緑の丸です。"}
ACCEPTED, MENDED, LEFT, REJECTED = PROPOSED["red"], "青い四角が三つあります。", PROPOSED["green"], "黒い星です。"


class Proposes(FakeService):
    """Says of each picture what `PROPOSED` has for its colour."""

    def submit(self, request: Request):
        colours = {png(colour): text for colour, text in PROPOSED.items()}
        self.reply = colours[request.sample.images[0].read()]
        return super().submit(request)


def _question(colour: str, text: str = CAPTION_PROMPT) -> Sample:
    return Sample("q", [Message("user", [0, text])], [ImageRef(data=png(colour))])


def _review_on_the_page(monkeypatch: pytest.MonkeyPatch, reviews: Path) -> str:
    """Propose for three pictures, accept one, mend and accept another; returns the command the page names."""
    at = open_app(monkeypatch, Proposes(), "caption", REVIEWS=reviews)
    at.file_uploader[0].set_value([(f"{colour}.png", png(colour), "image/png") for colour in PROPOSED]).run()
    at.button[0].click().run()
    at.session_state["editor-1"] = {
        "edited_rows": {0: {"accept": True}, 1: {"accept": True, "text": MENDED}},
        "added_rows": [],
        "deleted_rows": [],
    }
    next(field for field in at.text_input if field.label == "お名前").set_value("佐藤")
    next(button for button in at.button if button.label == "確かめたものを保存する").click().run()
    assert not at.exception
    return at.code[-1].value


def _instruct(run: Path, shards: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Run the stage; returns by sample the texts that its losses were computed on."""
    trained: dict[str, set[str]] = {}

    class Watched(NextToken):
        def loss_sum(self, batch):
            tokenizer, end = processor.tokenizer, processor.end
            pieces = batch.labels.flatten().split(batch.doc_lens)
            samples = [piece for piece, source in zip(pieces, batch.sources, strict=True) if source]
            for identity, labels in zip(batch.sample_ids, samples, strict=True):
                *text, last = labels[labels != IGNORED].tolist()
                assert last == end
                trained.setdefault(identity, set()).add(tokenizer.decode(text))
            assert {source for source in batch.sources if source} == {"review"}
            return super().loss_sum(batch)

    processor = load_model(run / "align" / "model").processor
    monkeypatch.setattr(vision_language, "NextToken", Watched)
    optimizer = {"learning_rate": 1e-2, "warmup": 4}
    phase = {
        "data": [{"shards": str(shards)}],
        "loop": {"steps": 30, "optimizer": optimizer},
        "packing": {"row_length": 128, "rows": 1},
    }
    stages = {"align": phase, "instruct": {"phases": {"reviewed": phase}}}
    recipe = load_config(Recipe, None, [], {"name": "t", "stages": stages})
    figures = vision_language.instruct(StageContext(run, "instruct", recipe))
    assert figures["1-reviewed"]["samples"] == {str(shards): 2}
    return trained


def _preference(model: VisionLanguageModel, sample: Sample, texts: list[str]) -> float:
    """How much more likely the first of two answers is, in nats."""
    ((first, second),) = model.choice_log_likelihoods([sample], [texts])
    return first - second


def test_what_a_person_mended_is_what_the_model_is_trained_on(monkeypatch, tokenizer, tmp_path: Path) -> None:
    begun = datetime.now(UTC).replace(microsecond=0)
    reviews = tmp_path / "reviews"
    command = _review_on_the_page(monkeypatch, reviews)
    add_review(reviews, _question("red", "何色ですか。"), REJECTED, None, by="鈴木")
    records = [(r.verdict, r.proposed, r.text, r.by) for _, r in read_reviews(reviews)]
    assert records == [
        ("accepted", ACCEPTED, ACCEPTED, "佐藤"),
        ("mended", PROPOSED["blue"], MENDED, "佐藤"),
        ("rejected", REJECTED, "", "鈴木"),
    ]

    monkeypatch.chdir(tmp_path)
    assert command == f"jvlm data build {reviews} --out shards/reviewed"
    told = CliRunner().invoke(app, command.split()[1:])
    assert told.exit_code == 0, told.output
    shards = tmp_path / "shards" / "reviewed"
    reader = open_shards(shards)
    samples = {sample.id: sample for sample in map(reader.read, range(len(reader)))}
    for sample in samples.values():
        assert sample.meta["by"] == "佐藤"
        assert begun <= datetime.fromisoformat(sample.meta["at"]) <= datetime.now(UTC)
    assert {s.meta["verdict"]: s.messages[-1].text for s in samples.values()} == {
        "accepted": ACCEPTED,
        "mended": MENDED,
    }

    run = tmp_path / "run"
    save_model(run / "align" / "model", make_model(tokenizer), Processor(tokenizer, VISION, PROJECTOR))
    trained = _instruct(run, shards, monkeypatch)
    assert trained == {identity: {sample.messages[-1].text} for identity, sample in samples.items()}
    targets = set.union(*trained.values())
    assert targets == {ACCEPTED, MENDED}
    assert not targets & {PROPOSED["blue"], LEFT, REJECTED}

    before, after = (load_model(run / stage / "model") for stage in ("align", "instruct"))
    mended = [MENDED, PROPOSED["blue"]]
    gained = _preference(after, _question("blue"), mended) - _preference(before, _question("blue"), mended)
    assert gained > 10  # nats: what the person wrote, over what the model had said
    answers = after.generate([_question("blue"), _question("red")], max_new_tokens=48)
    assert [answer.text for answer in answers] == [MENDED, ACCEPTED]
