"""A made exam on disk: every kind of question, linked cases, pictures, excluded and taboo options."""

import json
from dataclasses import asdict
from pathlib import Path

from exam_items import make_item, multi, numeric
from tiny import encoded_image

from jvlm.eval.items import ExamItem, Option


def exam_items(exam: str = "112", count: int = 60) -> list[ExamItem]:
    """`count` questions of each kind that matter, in turn: text, with picture, two and three to mark, a number."""
    items: list[ExamItem] = []
    for i in range(count):
        gold = "abcde"[(i * 7) % 5]
        options = [Option(label, f"{exam}の所見{i}{label}") for label in "abcde"]
        common = {"exam": exam, "section": "ABCDEF"[i % 6], "required": i % 6 in (1, 4), "options": options}
        common |= {"stem": f"問{i}の所見はどれか。", "group_id": f"{exam}-{i // 2}", "tags": [f"category=科{i % 3}"]}
        name = f"{exam}-{i:03d}"
        if i % 10 == 7:
            items.append(multi(name, "ac" if i % 20 == 7 else "bd", **common))
        elif i % 10 == 8:
            three = {"answer_type": "mcq_multi", "n_select": 3, "accept": [["a", "c", "e"]]}
            items.append(make_item(name, **common | three))
        elif i % 10 == 9:
            items.append(numeric(name, str(i), **{key: common[key] for key in common if key != "options"}))
        else:
            pictures = [f"images/{i % 7}.png"] if i % 3 == 0 else []
            other = "abcde"[(i * 7 + 1) % 5]
            excluded = "all" if i == 11 else "if_wrong" if i == 13 else "none"
            kinki = [other] if i % 5 == 0 else []
            items.append(make_item(name, accept=[[gold]], images=pictures, excluded=excluded, kinki=kinki, **common))
    return items


def write_exam(folder: Path, items: list[ExamItem]) -> Path:
    """The records and the seven pictures that `exam_items` names."""
    (folder / "images").mkdir(parents=True)
    for number in range(7):
        (folder / "images" / f"{number}.png").write_bytes(encoded_image(number))
    rows = [json.dumps(asdict(item), ensure_ascii=False) for item in items]
    (folder / "items.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder
