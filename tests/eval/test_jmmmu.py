"""JMMMU: the authors' rules of reading, and figures known beforehand."""

import pytest
from examinees import Oracle, Random
from made_tasks import build_exam

from jvlm.errors import DataError
from jvlm.eval.items import exam_answer, load_items
from jvlm.eval.jmmmu import evaluate_jmmmu
from jvlm.eval.jmmmu_answers import open_is_right, read_letter
from jvlm.infer.types import Generation

OPTIONS = {"A": "北斎漫画", "B": "富嶽三十六景", "C": "西瓜図", "D": "東海道五十三次"}
LETTERS = [
    ("B", "B"),
    ("B。", "B"),
    ("(C)", "C"),
    ("答えは (B) か (C) です", "C"),
    ("A と D のうち D が", "D"),
    ("正解はBです", "B"),
    ("正解はB.富嶽", "B"),
    ("ア BC", "C"),  # a letter with a space behind it
    ("この 絵 は 有名 な 富嶽三十六景 という 作品", "B"),
    ("西瓜図 と 北斎漫画 の どちら か は 不明", "A"),
    ("富嶽三十六景", None),  # five words and fewer are not searched for the texts of options
    ("わかりません", None),
    ("", None),
]
OPEN = [
    ("20", ["20"], True),
    ("20個", ["20"], True),
    ("よって20個です", ["20"], True),
    ("1,234 円", ["1234"], True),
    ("1,234円", ["1234"], False),  # their pattern of commas ends at a word's edge, which 円 is not
    ("0.333", ["0.33"], True),
    ("3", ["0.3"], False),
    ("答えは東京です。大阪ではない", ["東京"], True),
    ("答えは東京です。大阪ではない", ["大阪"], False),  # only what is announced is searched
    ("回答は東京", ["東京"], True),
    ("大阪。式は x=東京", ["東京"], True),
    ("TOKYO", ["Tokyo"], True),
    ("abc", ["b"], False),  # a letter within a word
    ("a b c", ["b"], True),
    ("わからない", ["三", "3"], False),
]


@pytest.mark.parametrize(("said", "letter"), LETTERS)
def test_letters(said, letter):
    assert read_letter(said, OPTIONS) == letter


@pytest.mark.parametrize(("said", "accepted", "right"), OPEN)
def test_open_answers(said, accepted, right):
    assert open_is_right(said, accepted) is right


class Writer(Oracle):
    """Writes what it knows as a letter."""

    def generate(self, samples, *, max_new_tokens=64, temperature=0.0, seed=0):
        said = []
        for sample in samples:
            item = self.items[sample.id]
            right = item.accept[0][0] if item.options else exam_answer(item)
            wrong = next((label for label in item.labels if label != right), "ちがう")
            said.append(Generation(right if self._knows(sample) else wrong, "stop", 1))
        return said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_exam("jmmmu", tmp_path_factory.mktemp("jmmmu"))


def test_an_oracle_is_right_and_needs_its_pictures_or_not(folder, tmp_path):
    items = load_items(folder / "items.jsonl")
    result = evaluate_jmmmu(Writer(items), folder, tmp_path, name="oracle")
    assert {result[part]["value"] for part in ("all", "culture_specific", "culture_agnostic", "removed")} == {1.0}
    assert {score["value"] for part in ("domains", "fields", "kinds") for score in result[part].values()} == {1.0}
    assert (result["audits"]["removed"]["retention"], result["audits"]["removed"]["net_effect"]) == (1.0, 0.0)
    assert set(result["domains"]) == {"Culture", "Health and Medicine"}
    assert (result["parser"], result["prompt"]) == ("jmmmu-v1", "jmmmu-v1")
    assert set(result["parsers"]) == {"jmmmu-v1", "ja-answers-v3"}
    assert result["parsers"]["ja-answers-v3"]["value"] == 1.0
    assert result["culture_specific"]["n"] == result["culture_agnostic"]["n"] == 13
    sees = evaluate_jmmmu(Writer(items, needs_image=True), folder, tmp_path, name="sees")
    assert (sees["all"]["value"], sees["removed"]["value"], sees["audits"]["removed"]["gain"]) == (1.0, 0.0, 1.0)


def test_what_says_nothing_is_wrong_and_counted_and_the_best_letter_gives_the_printed_figure(folder, tmp_path):
    mute = evaluate_jmmmu(Random(0), folder, tmp_path, name="mute")
    letters = [item for item in load_items(folder / "items.jsonl") if item.options]
    assert (mute["all"]["value"], mute["all"]["parse_failures"]) == (0.0, len(letters))
    constant = mute["all"]["constant"]

    class Constant(Random):
        def generate(self, samples, **_):
            said = [constant["mcq_single" if sample.meta["labels"] else "open"] for sample in samples]
            return [Generation(one, "stop", 1) for one in said]

    played = evaluate_jmmmu(Constant(0), folder, tmp_path, name="constant")
    assert played["all"]["value"] == mute["all"]["best_constant"]


def test_a_language_model_alone_is_asked_without_pictures(folder, tmp_path):
    class Blind(Writer):
        def check(self, sample, answers):
            if sample.images:
                raise DataError("no pictures", where=sample.id)

    items = load_items(folder / "items.jsonl")
    result = evaluate_jmmmu(Blind(items), folder, tmp_path, name="blind")
    assert (result["all"]["value"], result["removed"]["value"], len(result["not_asked"])) == (0.0, 1.0, len(items))
    assert result["audits"] == {}


def test_answers_are_kept(folder, tmp_path):
    first = evaluate_jmmmu(Writer(load_items(folder / "items.jsonl")), folder, tmp_path, name="m")

    class Silent(Random):
        def generate(self, samples, **_):
            assert not samples, "asked again"
            return []

    assert evaluate_jmmmu(Silent(0), folder, tmp_path, name="m") == first
