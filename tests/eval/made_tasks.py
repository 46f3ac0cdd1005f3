"""Small made sets in the published layouts: a dozen questions of each benchmark, nothing of the real ones."""

import json
from pathlib import Path
from typing import Any

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
SETS += ("ja_mt_bench", "ja_vicuna_qa", "yakugakuqa")


def build_all(root: Path) -> Path:
    """Every set, converted; returns the data folder."""
    for name in SETS:
        source = root / "published" / name
        globals()[f"_{name}"](source)
        counts = convert_named(name, source, root / "data" / ("exam" if name == "yakugakuqa" else ".") / name)
        assert counts["errors"] == 0, (name, counts)
    return root / "data"


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


def _turns(path: Path, turns: int) -> None:
    rows = [
        {"question_id": i, "category": "writing", "turns": [f"{thing}について{t}" for t in range(turns)]}
        for i, thing in enumerate(THINGS)
    ]
    write_lines(path, rows)


def _ja_mt_bench(source: Path) -> None:
    _turns(source / "japanese_mt_bench/question.jsonl", 2)


def _ja_vicuna_qa(source: Path) -> None:
    _turns(source / "data/jp_bench/question.jsonl", 1)


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
