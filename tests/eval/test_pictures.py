import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from jvlm.errors import DataError
from jvlm.eval.pictures import answer_is_right, evaluate_pictures
from jvlm.files import read_json_lines
from jvlm.images.load import load_image
from jvlm.images.shards import write_shards
from jvlm.infer.types import Generation
from jvlm.sample import ImageRef, Message, Sample

ASKED = Message("user", [0, "何ですか。"])
COLOURS = {"りんご": (255, 0, 0), "バナナ": (255, 255, 0), "ぶどう": (128, 0, 128)}


def picture(colour: tuple[int, int, int], side: int) -> ImageRef:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "PNG")
    return ImageRef(data=buffer.getvalue())


def questions(folder: Path, golds: Sequence[str]) -> Path:
    """One fruit a question; pictures of equal answers differ in size."""
    samples = [
        Sample(
            f"q{i:02d}",
            [ASKED],
            [picture(COLOURS[g], 8 + i)],
            None,
            {"kind": "naming", "gold": g},
        )
        for i, g in enumerate(golds)
    ]
    write_shards(iter(samples), folder)
    return folder


class Looking:
    """Names the colour it is shown; without a picture says バナナ."""

    def __init__(self) -> None:
        self.asked = 0

    def generate(self, samples, *, max_new_tokens=64, temperature=0.0, seed=0):
        self.asked += len(samples)
        return [Generation(self._name(sample) + "です。", "stop", 1) for sample in samples]

    def choice_log_likelihoods(self, samples, choices):
        raise NotImplementedError

    def _name(self, sample: Sample) -> str:
        if not sample.images:
            return "バナナ"
        shown = load_image(sample.images[0]).getpixel((0, 0))
        return next(name for name, colour in COLOURS.items() if colour == shown)


def test_a_model_that_looks_is_right_with_the_image_and_never_with_another(tmp_path):
    golds = ["りんご", "りんご", "バナナ", "ぶどう", "りんご"]
    scores = evaluate_pictures(Looking(), questions(tmp_path / "naming", golds), tmp_path / "out", name="m")["naming"]
    assert scores["image"]["value"] == 1.0
    assert scores["other_image"]["value"] == 0.0  # the other image always has another answer
    assert scores["removed"]["value"] == pytest.approx(1 / 5)
    assert scores["image"]["best_constant"] == pytest.approx(3 / 5)
    assert scores["image"]["chance"] == pytest.approx(1 / 3)
    assert (scores["constant"], scores["answers"], scores["image"]["n"]) == ("りんご", 3, 5)
    assert scores["audit"]["transitions"] == {"persistent": 1, "gain": 4, "harm": 0, "unresolved": 0}
    rows = read_json_lines(tmp_path / "out" / "samples.jsonl")
    assert len(rows) == 15
    assert {row["arm"] for row in rows} == {"image", "other_image", "removed"}


def test_the_other_image_is_another_picture_and_not_one_for_all(tmp_path):
    golds = ["りんご"] * 12 + ["バナナ", "ぶどう", "バナナ", "ぶどう"]
    evaluate_pictures(Looking(), questions(tmp_path / "naming", golds), tmp_path / "out", name="m")
    rows = read_json_lines(tmp_path / "out" / "samples.jsonl")
    said = [row["output"] for row in rows if row["arm"] == "other_image" and row["gold"] == "りんご"]
    assert set(said) == {"バナナです。", "ぶどうです。"}


def test_where_all_answers_or_all_pictures_are_the_same_there_is_no_other_image(tmp_path):
    scores = evaluate_pictures(Looking(), questions(tmp_path / "one", ["りんご"] * 4), tmp_path / "out", name="m")
    assert set(scores["naming"]) == {"image", "removed", "audit", "constant", "answers"}
    same = [
        Sample(f"s{i}", [ASKED], [picture(COLOURS["りんご"], 8)], None, {"kind": "naming", "gold": gold})
        for i, gold in enumerate(["りんご", "バナナ"])
    ]
    write_shards(iter(same), tmp_path / "same")
    assert "other_image" not in evaluate_pictures(Looking(), tmp_path / "same", tmp_path / "out2", name="m")["naming"]


def test_what_was_answered_is_not_asked_again(tmp_path):
    folder, model = questions(tmp_path / "naming", ["りんご", "バナナ"]), Looking()
    first = evaluate_pictures(model, folder, tmp_path / "out", name="m")
    assert model.asked == 6
    assert evaluate_pictures(model, folder, tmp_path / "out", name="m") == first
    assert model.asked == 6
    evaluate_pictures(model, folder, tmp_path / "out", name="another")
    assert model.asked == 12


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("りんご（ロイヤルガラ）です。", "りんご(ロイヤルガラ)", True),
        ("りんごです", "りんご", True),
        ("りんご", "青りんご", False),
        ("それはりんごです。", "りんご", False),
        ("Yes.", "yes", True),
        ("3個です。", "3", True),
        ("三個です。", "3", True),
        ("十二個", "12", True),
        ("二十個", "20", True),
        ("１３個です。", "3", False),
        ("3個か4個です。", "3", False),
        ("", "3", False),
    ],
)
def test_answers_are_read(answer, gold, right):
    assert answer_is_right(answer, gold) is right


def test_samples_without_gold_or_image_are_named(tmp_path):
    bare = Sample("bare", [Message("user", ["何ですか。"])], [], None, {"kind": "naming", "gold": "りんご"})
    write_shards(iter([bare]), tmp_path / "set")
    with pytest.raises(DataError, match="needs an image") as caught:
        evaluate_pictures(Looking(), tmp_path / "set", tmp_path / "out", name="m")
    assert "bare" in str(caught.value)
