"""Small made sets in the published layouts: a dozen questions of each benchmark, nothing of the real ones."""

import json
from pathlib import Path
from typing import Any

from tiny import encoded_image

from jvlm.datasets import convert_named

THINGS = [
    "りんご",
    "みかん",
    "ぶどう",
    "すいか",
    "もも",
    "なし",
    "かき",
    "くり",
    "うめ",
    "びわ",
    "いちご",
    "バナナ",
    "メロン",
]
THREE, TWO = ("entailment", "contradiction", "neutral"), ("entailment", "non-entailment")
SETS = ("jglue", "jemhopqa", "niilc", "janli", "jamp", "jsick", "jmmlu", "jmed_llm", "pubmedqa", "jacred")
SETS += ("ja_mt_bench", "ja_vicuna_qa", "heron_bench", "vqa_rad", "yakugakuqa")
EXAMS = ("yakugakuqa", "kokushimd10", "jmed48k", "jmmmu")


def build_all(root: Path) -> Path:
    """Every set, converted; returns the data folder."""
    for name in SETS:
        source = root / "published" / name
        globals()[f"_{name}"](source)
        counts = convert_named(name, source, root / "data" / ("exam" if name == "yakugakuqa" else ".") / name)
        assert counts["errors"] == 0, (name, counts)
    return root / "data"


def build_exam(name: str, root: Path) -> Path:
    """One of EXAMS, converted; returns its folder of records."""
    globals()[f"_{name}"](root / "published" / name)
    counts = convert_named(name, root / "published" / name, root / "data" / "exam" / name)
    assert counts["errors"] == 0, (name, counts)
    return root / "data" / "exam" / name


def write_lines(path: Path, rows: list[Any]) -> None:
    write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _table(path: Path, head: list[str], rows: list[list[str]]) -> None:
    write(path, "\n".join("\t".join(row) for row in [head, *rows]) + "\n")


def jcommonsenseqa(split: str, count: int = 12) -> list[dict[str, Any]]:
    return [
        {"q_id": i, "question": f"{split}{i}番の果物は？"}
        | {f"choice{c}": THINGS[(i + c) % 13] + "の実" * (c % 3) for c in range(5)}
        | {"label": i * i % 5}
        for i in range(count)
    ]


def pairs(split: str, count: int = 12) -> list[dict[str, Any]]:
    return [
        {
            "sentence_pair_id": str(i),
            "yjcaptions_id": f"{i // 2}-{i}-{i + 1}",
            "sentence1": f"{split}の{THINGS[i % 13]}が机にあります。",
            "sentence2": f"{THINGS[i * 5 % 13]}が{i}個あります。",
            "label": THREE[i * i % 3],
        }
        for i in range(count)
    ]


def _jglue(source: Path) -> None:
    folder = source / "datasets"
    for split in ("train", "valid", "test"):
        write_lines(folder / f"jcommonsenseqa-v1.3/{split}-v1.3.json", jcommonsenseqa(split))
        write_lines(folder / f"jnli-v1.3/{split}-v1.3.json", pairs(split))
        likeness = [row | {"label": i % 6 * 0.8} for i, row in enumerate(pairs(split))]
        write_lines(folder / f"jsts-v1.3/{split}-v1.3.json", likeness)
        pages = [
            {
                "title": f"{split}{thing}",
                "paragraphs": [
                    {
                        "context": f"{split}{thing} [SEP] {split}の{thing}は{place}で採れる{{木}}の実である。",
                        "qas": [
                            {
                                "id": f"{split}{thing}{q}",
                                "question": f"{thing}はどこで採れる？{q}",
                                "answers": [{"text": place}, {"text": f"{place}県"}],
                            }
                            for q in range(2)
                        ],
                    }
                ],
            }
            for thing, place in zip(THINGS, ["青森", "愛媛", "山梨", "千葉", "青森", "福島"], strict=False)
        ]
        write(folder / f"jsquad-v1.3/{split}-v1.3.json", json.dumps({"data": pages}))


def _jemhopqa(source: Path) -> None:
    for split, path in (("train", "corpus/train.json"), ("dev", "corpus_ver1.2/dev_ver1.2.json")):
        rows = [
            {
                "qid": f"{split}{i}",
                "type": "comparison" if i % 2 else "compositional",
                "question": f"{split}{i}で{thing}は赤いですか？",
                "answer": ["YES", "NO", thing][i % 3],
                "derivations": [[thing, "色", ["赤", "紅"]], [thing, "産地", ["青森"]]],
            }
            for i, thing in enumerate(THINGS)
        ]
        write(source / path, json.dumps(rows))


def _niilc(source: Path) -> None:
    for split in ("dev", "test"):
        questions = "".join(
            f'<question id="{split}-{i}"><text>{split}{i}の{thing}は何県？</text><answers><answer>青森県</answer>'
            f"<answer>{thing}県</answer></answers></question>"
            for i, thing in enumerate(THINGS)
        )
        head = "<?xml version='1.0' encoding=\"UTF-8\"?>"
        write(source / f"data/NIILC-ECQA2015_{split}.xml", f"{head}<questions>{questions}</questions>")


def _janli(source: Path) -> None:
    head = ["", "sentence_A_Ja", "sentence_B_Ja", "entailment_label_Ja", "heuristics", "split"]
    rows = [
        [str(i), f"{thing}を{i}が見た", f"{i}が{thing}を見た", TWO[i * i % 3 % 2], "overlap", ("train", "test")[i % 2]]
        for i, thing in enumerate(THINGS * 2)
    ]
    _table(source / "janli.tsv", head, rows)


def _jamp(source: Path) -> None:
    for name in ("train", "test_2"):
        rows = [[str(i), f"{name}{i}時に{t}", f'{i}時"に{t}', THREE[i % 3], "時"] for i, t in enumerate(THINGS)]
        _table(source / f"dataset/{name}.tsv", ["num", "premise", "hypothesis", "gold_label", "category"], rows)


def _jsick(source: Path) -> None:
    head = ["pair_ID", "sentence_A_Ja", "sentence_B_Ja", "entailment_label_Ja", "image_ID"]
    for split in ("train", "test"):
        rows = [[str(i), f"{split}{t}が{i}個", f"{t}", THREE[i % 3], f"p{i // 2}"] for i, t in enumerate(THINGS)]
        _table(source / f"jsick/{split}.tsv", head, rows)


def _jmmlu(source: Path) -> None:
    for subject in ("anatomy", "logic"):
        rows = [f"{subject}{i}の{t}は？,甲{i},乙,丙,丁,{'ABCD'[i * 3 % 4]}" for i, t in enumerate(THINGS)]
        write(source / f"JMMLU/{subject}.csv", "\ufeff" + "\n".join(rows) + "\n")


def _jmed_llm(source: Path) -> None:
    for name, options in (("jmmlu_med", 4), ("crade", 4), ("rrtnm", 5), ("smdis", 2), ("jcsts", 4)):
        head = ",".join(["tag", "question", *(f"option{c}" for c in "ABCDE"[:options]), "answer"])
        rows = [
            ",".join(["t", f"{name}{i}の{thing}", *(f"選択{i}{c}" for c in "ABCDE"[:options]), "ABCDE"[i % options]])
            for i, thing in enumerate(THINGS)
        ]
        if name == "rrtnm":  # other items have fewer options
            rows[0] = rows[0].replace("選択0E", "").replace("選択0D", "").replace("選択0C", "")
        write(source / f"datasets/{name}.csv", "\n".join([head, *rows]) + "\n")
    for name in ("mrner_disease", "mrner_medicine", "nrner"):
        rows = [f"d,\"{name}{i}：「{t}と発熱。」\",\"['{t}', '発熱']\"" for i, t in enumerate(THINGS)]
        write(source / f"datasets/{name}.csv", "\n".join(["tag,question,answer", *rows]) + "\n")


def _pubmedqa(source: Path) -> None:
    decisions = {str(i): ("yes", "no", "maybe")[i % 3] for i in range(26)}
    rows = {
        i: {"QUESTION": f"Does {i} work?", "CONTEXTS": [f"We saw {i}.", "It did."], "final_decision": decision}
        for i, decision in decisions.items()
    }
    write(source / "data/ori_pqal.json", json.dumps(rows))
    write(source / "data/test_ground_truth.json", json.dumps(dict(list(decisions.items())[:13])))


def _jacred(source: Path) -> None:
    write(source / "meta/rel_info.json", json.dumps({"P27": "Country", "P19": "PlaceOfBirth"}))
    for split in ("train", "dev", "test"):
        rows = [
            {
                "title": f"{split}{thing}",
                "sents": [[thing, "は", "日本", "の", "人", "。"], ["青森", "に", "生まれ", "た", "。"]],
                "vertexSet": [
                    [{"name": thing, "type": "PER"}, {"name": "その人", "type": "PER"}],
                    [{"name": "日本", "type": "LOC"}],
                    [{"name": f"青森{i if split == 'test' else ''}", "type": "LOC"}],
                ],
                "labels": [{"h": 0, "t": 1, "r": "P27"}, {"h": 0, "t": 2, "r": "P19"}][: 1 + i % 2],
            }
            for i, thing in enumerate(THINGS)
        ]
        write(source / f"{split}.json", json.dumps(rows))


def _turns(path: Path, turns: int, category: str = "writing") -> None:
    rows = [
        {"question_id": i, "category": (category, "math")[i % 2], "turns": [f"{t}について{n}" for n in range(turns)]}
        for i, t in enumerate(THINGS)
    ]
    write_lines(path, rows)


def answers(who: str, turns: int, ids: range = range(len(THINGS))) -> list[dict[str, Any]]:
    """Rows of FastChat's files of answers."""
    said = {i: [f"{who}{i}-{n}" for n in range(turns)] for i in ids}
    return [{"question_id": i, "choices": [{"index": 0, "turns": texts}]} for i, texts in said.items()]


def _ja_mt_bench(source: Path) -> None:
    folder = source / "japanese_mt_bench"
    _turns(folder / "question.jsonl", 2)
    write_lines(folder / "reference_answer/gpt-4.jsonl", answers("古い", 2))
    write_lines(folder / "reference_answer/gpt-4o-2024-08-06.jsonl", answers("模範", 2))
    head, told = "[指示]\n評価してください。", "[アシスタントの回答の開始]\n答え{}{}\n[アシスタントの回答の終了]"
    beside = "[参考回答の開始]\n模範\n[参考回答の終了]\n\n"
    rows = [
        {
            "question_id": str(i),
            "model": model,
            "judge": ["gpt-4", "single-v1"],
            "user_prompt": f"{head}\n\n[質問]\n{t}について\n\n{beside * (i % 2)}{told.format(model, i)}",
            "judgment": f"評価：[[{1 + i % 10}]]",
            "score": 1 + i % 10,
            "turn": 1,
        }
        for i, t in enumerate(THINGS)
        for model in ("甲", "乙")
    ]
    write_lines(folder / "model_judgment/gpt-4_single.jsonl", rows)


def _ja_vicuna_qa(source: Path) -> None:
    folder = source / "data/jp_bench"
    _turns(folder / "question.jsonl", 1, "generic")
    write_lines(folder / "reference_answer/gpt-4/results.jsonl", answers("模範", 1, range(1, len(THINGS), 2)))
    write_lines(folder / "model_answer/openai--text-davinci-003/results.jsonl", answers("相手", 1))
    write_lines(folder / "model_answer/other/results.jsonl", answers("他", 1))
    winners = [("model_1", "model_1"), ("model_2", "model_2"), ("tie", "tie"), ("model_1", "model_2")]
    rows = [
        {"model_1": "甲", "model_2": "乙", "question_id": i, "question": f"{t}について0"}
        | {"answer_1": f"甲の答え{i}", "answer_2": f"乙の答え{i}", "judge_model": "gpt-4", "judge_prompt": "pair"}
        | {"g1_winner": winners[i % 4][0], "g2_winner": winners[i % 4][1]}
        for i, t in enumerate(THINGS)
    ]
    write_lines(folder / "model_judgment/pairwise/gpt-4/pairwise:甲_乙.jsonl", rows)


def _heron_bench(source: Path) -> None:
    kinds = ("conv", "detail", "complex")
    rows = [
        {"question_id": i, "image": f"{i // 3:03d}.png", "category": kinds[i % 3], "image_category": "food"}
        | {"text": f"{t}は写っていますか？"}
        for i, t in enumerate(THINGS)
    ]
    write_lines(source / "questions_ja.jsonl", rows)
    images = sorted({row["image"] for row in rows})
    write_lines(source / "context_ja.jsonl", [{"image": name, "caption": f"{name}の説明"} for name in images])
    write_lines(source / "answers_gpt4.jsonl", [{"question_id": i, "text": f"模範{i}"} for i in range(len(rows))])
    _pictures(source / "images", images)


def _vqa_rad(source: Path) -> None:
    rows = [
        {"qid": 20 * i + n, "image_name": f"{i}.png", "question": f"{n}: {question}", "answer": answer}
        | {"answer_type": kind, "question_type": "PRES", "phrase_type": phrase if n < 2 else "freeform"}
        for i, phrase in enumerate(["test_freeform", "freeform"] * 12)
        for n, (question, answer, kind) in enumerate(
            [
                ("Is it large?", ("Yes", "no")[i % 3 > 1], "CLOSED "),
                ("Where is it?", f"upper {('left', 'right')[i % 2]} lobe", "OPEN"),
                ("What is it?", ("mass", "nodule")[i % 5 > 2], "OPEN"),
            ]
        )
    ]
    write(source / "VQA_RAD Dataset Public.json", json.dumps(rows))
    _pictures(source / "VQA_RAD Image Folder", [f"{i}.png" for i in range(24)])


def _pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(encoded_image(number))


def _kokushimd10(source: Path) -> None:
    papers = [("医師", "a"), ("医師", "b"), ("看護", "a"), ("診療", "b"), ("薬剤", "a1"), ("薬剤", "b2")]
    for profession, block in papers:
        rows = []
        for i, t in enumerate(THINGS):
            many = i % 5 == 4
            row = {"index": str(i * 4 + 1), "question": f"{block}{t}はどれか。" + ("２つ選べ。" if many else "")}
            row |= {"choices": {c: f"{profession}{i}{c}" for c in "abcde"}, "text_only": i % 4 > 0, "points": "1"}
            row |= {"answer": "BD" if many else "ABCDE"[i * i % 5], "human_accuracy": 0.5, "kinki": ["e"] * (i == 1)}
            row |= {"answer_sub2": "物理"} if profession == "薬剤" else {}
            row |= {} if row["text_only"] else {"images": [f"images/{block}{i}.png"]}
            rows.append(row)
        rows[5] |= {"choices": {}, "question": "値を求めよ。", "answer": "21", "text_only": True}
        rows[5].pop("images", None)
        rows[7]["corrected_question_index"] = "1"
        folder = source / "exams/JA" / profession
        write(folder / f"{profession}_2020_{block}.json", json.dumps(rows))
        _pictures(folder / "images", [f"{block}{i}.png" for i in range(len(THINGS))])


def _jmed48k(source: Path) -> None:
    for folder, sections in (("01_Physician", "ABE"), ("07_ClinicalLab", ("AM", "PM")), ("05_Nurse", ("午前",))):
        rows = []
        for section in sections:
            for i, t in enumerate(THINGS):
                many, drawn = i % 5 == 4, i % 6 == 3
                row = {"question_number": i * 4 + 1, "section": section, "text_reference": "共通の文。" * (i in (6, 7))}
                row |= {
                    "question_text": f"{section}{t}はどれか。" + ("２つ選べ。" if many else ""),
                    "text_only": i % 3 > 0,
                }
                row |= {"options": {str(n): "" if drawn else f"{folder}{section}{i}{n}" for n in range(1, 6)}}
                row |= {"correct_answer": ["2", "4"] if many else [str(1 + i * i % 5)]}
                img = {"content_img": [] if row["text_only"] else [f"{section}{i}.png"]}
                options = [f"{section}{i}-{n}.png" for n in range(1, 6 if i == 3 else 2)]
                img |= {"answer_img": options if drawn else None}
                rows.append(row | {"img": img, "text_only": row["text_only"] and not drawn})
        paper = source / "JMed48k-eval" / folder / f"{folder}_2021"
        write(paper / "questions.json", json.dumps({"questions": rows}))
        names = [name for row in rows for part in row["img"].values() for name in part or []]
        _pictures(paper / "2021_images", names)


def jmmmu_rows(subject: str) -> list[dict[str, Any]]:
    """Rows of a subject's table, with pictures as they are published."""
    rows = []
    for i, t in enumerate(THINGS):
        is_open = i % 6 == 5
        named = [1] if i % 4 else [2, 1]
        row: dict[str, Any] = {"id": f"test_{subject}_{i + 1}", "question": f"<image {named[0]}>の{subject}{t}は？"}
        options = [f"{t}{i}甲", f"{t}{i}乙", f"<image {named[1]}>" if len(named) > 1 else f"{t}{i}丙", f"{t}{i}丁"]
        row |= {"options": repr([] if is_open else options), "answer": f"{t}{i}" if is_open else "ABCD"[i * i % 4]}
        row |= {"question_type": "open" if is_open else "multiple-choice", "explanation": ""}
        shown = {n: {"bytes": encoded_image(i + n), "path": None} for n in named}
        row |= {f"image_{n}": shown.get(n) for n in range(1, 8)}
        rows.append(row)
    return rows


def _jmmmu(source: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    for subject in ("Pharmacy", "Japanese_Art"):
        rows = jmmmu_rows(subject)
        texts = [(name, pyarrow.string()) for name in rows[0] if not name.startswith("image_")]
        schema = pyarrow.schema([*texts, *((f"image_{n}", image) for n in range(1, 8))])
        path = source / subject / "test-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        parquet.write_table(pyarrow.Table.from_pylist(rows, schema), path)


def _yakugakuqa(source: Path) -> None:
    rows = [
        {
            "problem_id": f"097{i + 1:03d}",
            "problem_text": f"{thing}はどれか。{1 + i % 2}つ選べ。",
            "choices": [f"薬{i}{c}" for c in range(5)],
            "text_only": True,
            "answer": [str(1 + i % 5)] if i % 2 == 0 else ["1", "3", "5（いずれか2つ選択で正解とする）"],
            "points": "1",
        }
        for i, thing in enumerate(THINGS)
    ]
    write_lines(source / "data/2012/097.jsonl", rows)
    about = [{"problem_id": row["problem_id"], "category": "Physics", "note": ""} for row in rows]
    write_lines(source / "data/2012/metadata_097.jsonl", about)
