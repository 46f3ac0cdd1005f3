"""Captions, conversations and pairs of one's own: good rows become samples, bad ones a ledger with file and line."""

import json

import pytest
from tiny import encoded_image

from jvlm.datasets import build_named, build_rows, cards, convert_named
from jvlm.errors import DataError, UsageError
from jvlm.files import read_json_lines
from jvlm.images.shards import ShardReader, check_shards
from jvlm.sample import CAPTION_PROMPT


def build(tmp_path, *lines):
    """Builds from raw lines; gives the counts, the reader and the ledger's rows as {line: error}."""
    (tmp_path / "pictures").mkdir(exist_ok=True)
    for number in range(3):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(encoded_image(number))
    (tmp_path / "pictures" / "cut.png").write_bytes(encoded_image(3)[:200])
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines))
    counts = build_rows(rows, tmp_path / "set")
    errors = {}
    for record in read_json_lines(tmp_path / "set.errors.jsonl"):
        file, _, line = record["where"].rpartition(":")
        assert file == str(rows)
        errors[int(line)] = record["error"]
    return counts, ShardReader(tmp_path / "set"), errors


def row(image, text):
    return json.dumps({"image": image, "text": text}, ensure_ascii=False)


GOOD = row("pictures/0.png", "赤い丸です。")


def test_good_rows_become_captioned_samples(tmp_path):
    counts, reader, errors = build(tmp_path, GOOD, row("pictures/1.png", "青い四角、\n二つ。"))
    assert counts == {"samples": 2, "errors": 0}
    assert errors == {}
    assert check_shards(tmp_path / "set") == []
    sample = reader.read(1)
    assert [m.role for m in sample.messages] == ["user", "assistant"]
    assert sample.messages[0].content == [0, CAPTION_PROMPT]
    assert sample.messages[1].text == "青い四角、\n二つ。"
    assert sample.images[0].read() == encoded_image(1)
    assert sample.meta["source"] == "pictures/1.png"
    assert reader.ids == ["rows-00000001", "rows-00000002"]


BAD = {
    "no text": row("pictures/0.png", "  "),
    "no text field": '{"image": "pictures/0.png"}',
    "text is no string": row("pictures/0.png", 5),
    "no image field": '{"text": "赤"}',
    "not JSON": '{"image": ',
    "not an object": "[1, 2]",
    "missing image": row("pictures/9.png", "赤"),
    "cut image": row("pictures/cut.png", "赤"),
    "a folder": row("pictures", "赤"),
    "not UTF-8": b'{"image": "pictures/0.png", "text": "\xff"}',
    "lone surrogate": '{"image": "pictures/0.png", "text": "\\ud800"}',
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_recorded_with_its_line_and_the_others_stay(tmp_path, name):
    counts, reader, errors = build(tmp_path, GOOD, BAD[name], row("pictures/2.png", "黒い星。"))
    assert counts == {"samples": 2, "errors": 1}
    assert list(errors) == [2]
    assert errors[2]
    assert reader.ids == ["rows-00000001", "rows-00000003"]


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\x0c"])
def test_a_caption_may_hold_what_other_programs_call_a_line_end(tmp_path, separator):
    text = f"赤い丸{separator}です。"
    line = '{"image": "pictures/1.png", "text": "' + text.replace("\x0c", "\\f") + '"}'
    counts, reader, errors = build(tmp_path, line, "{", GOOD)
    assert reader.read(0).messages[1].text == text
    assert counts == {"samples": 2, "errors": 1}
    assert list(errors) == [2]


def test_a_byte_order_mark_is_no_error(tmp_path):
    counts, _, _ = build(tmp_path, b"\xef\xbb\xbf" + GOOD.encode())
    assert counts == {"samples": 1, "errors": 0}


def test_nothing_usable_and_nothing_there_are_errors(tmp_path):
    with pytest.raises(DataError, match="nothing usable") as caught:
        build(tmp_path, "{", row("nowhere.png", "赤"))
    assert "set.errors.jsonl" in str(caught.value)
    assert len(read_json_lines(tmp_path / "set.errors.jsonl")) == 2
    assert not (tmp_path / "set").exists()
    with pytest.raises(DataError, match="file not found"):
        build_rows(tmp_path / "none.jsonl", tmp_path / "set")


def test_a_second_build_starts_a_new_ledger(tmp_path):
    build(tmp_path, GOOD, "{", "{")
    counts, _, errors = build(tmp_path, GOOD, "{")
    assert counts["errors"] == len(errors) == 1


def test_known_sets_have_cards_and_others_are_refused(tmp_path):
    for name, card in cards().items():
        assert card["name"] == name
        assert card["licence"]
        assert card["source"]
    assert "toyworld" in cards()
    with pytest.raises(UsageError, match=r"no data set 'coco'.*known: .*toyworld"):
        build_named("coco", tmp_path / "out", 0, {}, print)


@pytest.mark.parametrize("name", sorted(set(cards()) - {"toyworld"}))
def test_every_published_set_has_a_converter_that_says_what_it_wants(tmp_path, name):
    assert name in cards()[name]["build"]
    with pytest.raises(DataError) as caught:
        convert_named(name, tmp_path, tmp_path / "out")
    assert caught.value.fix
    assert not (tmp_path / "out").exists()


def test_a_published_set_is_converted_from_its_source(tmp_path):
    (tmp_path / "in").mkdir()
    row = {"id": "1", "exam": 58, "session": "am", "number": 1, "question": "どれか。", "choices": ["赤", "青"]}
    row |= {"choice_images": None, "images": [], "answer": [2], "flags": []}
    (tmp_path / "in" / "questions.jsonl").write_text(json.dumps(row) + "\n{\n")
    counts = convert_named("clinical_lab", tmp_path / "in", tmp_path / "out")
    assert counts == {"items": 1, "images": 0, "errors": 1}
    with pytest.raises(UsageError, match="generated"):
        convert_named("toyworld", tmp_path / "in", tmp_path / "out")
    with pytest.raises(UsageError, match="no data set 'coco'"):
        convert_named("coco", tmp_path / "in", tmp_path / "out")
    with pytest.raises(UsageError, match=r"--source FOLDER: questions\.jsonl"):
        build_named("clinical_lab", tmp_path / "out", 0, {}, print)


# --- conversations and pairs ------------------------------------------------------------------------------------

QUESTION, ANSWER = {"role": "user", "content": "何ですか。"}, {"role": "assistant", "content": "赤い丸です。"}


def lines(*records):
    return [json.dumps(record, ensure_ascii=False) for record in records]


def test_conversations_need_no_image_and_may_have_several(tmp_path):
    system = {"role": "system", "content": "短く答えてください。"}
    seen = {"role": "user", "content": [1, "と", 0, "の違いは。"]}
    counts, reader, errors = build(
        tmp_path,
        *lines(
            {"messages": [system, QUESTION, ANSWER, QUESTION, ANSWER]},
            {"messages": [seen, ANSWER], "images": ["pictures/0.png", "pictures/1.png"]},
            {"messages": [{"role": "document", "content": "本文。"}]},
        ),
    )
    assert (counts, errors) == ({"samples": 3, "errors": 0}, {})
    assert check_shards(tmp_path / "set") == []
    first, second, third = (reader.read(i) for i in range(3))
    assert [(m.role, m.text) for m in first.messages[:3]] == [
        ("system", "短く答えてください。"),
        ("user", "何ですか。"),
        ("assistant", "赤い丸です。"),
    ]
    assert first.images == []
    assert second.messages[0].content == [1, "と", 0, "の違いは。"]
    assert [image.read() for image in second.images] == [encoded_image(0), encoded_image(1)]
    assert third.messages[0].role == "document"
    assert first.rejected is None


def test_preference_pairs_are_texts_or_messages(tmp_path):
    again = [QUESTION, ANSWER, {"role": "user", "content": "色は。"}]
    counts, reader, _ = build(
        tmp_path,
        *lines(
            {"prompt": "何ですか。", "chosen": "赤い丸です。", "rejected": "青です。"},
            {"prompt": again, "chosen": [ANSWER], "rejected": [{"role": "assistant", "content": "青。"}]},
        ),
    )
    assert counts == {"samples": 2, "errors": 0}
    one, two = reader.read(0), reader.read(1)
    assert [(m.role, m.text) for m in one.messages] == [("user", "何ですか。"), ("assistant", "赤い丸です。")]
    assert [(m.role, m.text) for m in one.rejected] == [("assistant", "青です。")]
    assert [m.text for m in two.messages] == ["何ですか。", "赤い丸です。", "色は。", "赤い丸です。"]
    assert [m.text for m in two.rejected] == ["青。"]


@pytest.mark.parametrize(
    ("record", "error"),
    [
        ({"messages": [QUESTION]}, "no text, or there is none"),
        ({"messages": [QUESTION, {"role": "assistant", "content": " "}]}, "no text"),
        ({"messages": [QUESTION, {"role": "robot", "content": "a"}]}, "robot"),
        ({"messages": [{"role": "user", "content": [0, "これは"]}, ANSWER]}, "names image 0"),
        ({"messages": [QUESTION, ANSWER], "images": ["pictures/cut.png"]}, "image"),
        ({"messages": "何"}, "not a sample record"),
        ({"prompt": "何", "chosen": "赤"}, "not a row"),
        ({"prompt": "何", "chosen": "赤", "rejected": [ANSWER, ANSWER]}, "one assistant turn"),
        ({"prompt": "何", "chosen": [QUESTION], "rejected": "青"}, "no text, or there is none"),
        ({"prompt": "何", "chosen": "赤", "rejected": "\ud800"}, "surrogate"),
    ],
    ids=str,
)
def test_rows_that_teach_nothing_are_recorded(tmp_path, record, error):
    counts, _, errors = build(tmp_path, GOOD, json.dumps(record), GOOD)
    assert counts == {"samples": 2, "errors": 1}
    assert error in errors[2]
