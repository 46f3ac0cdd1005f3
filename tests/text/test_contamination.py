"""Evaluation texts are found inside documents, and nothing else is."""

from pathlib import Path

import numpy as np
import pytest

from jvlm.errors import DataError
from jvlm.text.contamination import EvaluationTexts, read_evaluation_texts

QUESTION = "58歳の男性。胸痛を主訴に来院した。心電図で異常を認める。診断はどれか。"
OTHER = "62歳の女性。腹痛を主訴に来院した。腹部エックス線で異常を認める。治療はどれか。"


def prose(seed: int, length: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("あいうえおかきくけこさしすせそ"), length))


def test_a_document_that_holds_a_question_is_found_whatever_its_layout() -> None:
    texts = EvaluationTexts([("q1", QUESTION), ("q2", OTHER)])
    assert texts.find(prose(1, 400) + QUESTION + prose(2, 400), 0.5) == ("q1", 1.0)
    assert texts.find(prose(1, 40) + "\n".join(OTHER) + prose(2, 40), 0.5) == ("q2", 1.0)
    assert texts.find(prose(3, 800), 0.5) is None
    assert texts.find("短い", 0.5) is None
    assert EvaluationTexts([]).find(QUESTION, 0.5) is None


def test_the_share_is_that_of_the_runs_of_13_characters() -> None:
    texts = EvaluationTexts([("q1", QUESTION)])
    runs = len(QUESTION) - 12
    assert len({QUESTION[i : i + 13] for i in range(runs)}) == runs
    for held in (1, runs // 2, runs - 1):
        part = prose(4, 50) + QUESTION[: held + 12] + prose(5, 50)
        assert texts.find(part, held / runs) == ("q1", held / runs)
        assert texts.find(part, (held + 1) / runs) is None


def test_a_run_that_two_questions_share_counts_for_both() -> None:
    opening = "次の文章を読み、以下の問いに答えよ。"
    texts = EvaluationTexts([("a", opening + prose(6, 10)), ("b", opening + prose(7, 30))])
    assert texts.find(opening + prose(6, 10), 0.9) == ("a", 1.0)
    assert texts.find(opening + prose(7, 30), 0.9) == ("b", 1.0)
    assert texts.find(opening, 0.9) is None


def test_short_texts_are_left_out_and_bad_rows_stop(tmp_path: Path) -> None:
    assert EvaluationTexts([("s", "正しいのはどれか。")]).ids == []
    (tmp_path / "exam.jsonl").write_text('{"text": "' + QUESTION + '"}\n{"stem": 1}\n')
    with pytest.raises(DataError, match=r"exam\.jsonl:2"):
        read_evaluation_texts([tmp_path / "exam.jsonl"])
