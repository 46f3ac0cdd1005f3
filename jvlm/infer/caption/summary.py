"""What came out, counted over all rows, and a page with some of them: style and pictures inline, nothing fetched."""

import html
from base64 import b64encode
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

from jvlm.errors import JvlmError
from jvlm.files import write_text
from jvlm.images.load import load_image
from jvlm.infer.caption.content import content, image_bytes
from jvlm.infer.caption.ledger import Ledger, Row
from jvlm.infer.caption.plan import Plan

SHOWN, FAILURES_SHOWN = 24, 12
SIDE = 192
"""Longest side of a picture on the page, in pixels."""
DRIFTED, REPEATED = 0.5, 0.5
"""Below this share of Japanese letters a caption counts as drifted, from this share of repetition on as a loop."""
_STYLE = """
:root{--ink:#1d2433;--soft:#667085;--line:#e3e6ec;--ground:#f6f7f9;--card:#fff;--bad:#c0362c}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9f0;--soft:#98a2b6;--line:#2c3444;--ground:#12161f;--card:#1a202c;
--bad:#ff7b70}}
body{margin:0;background:var(--ground);color:var(--ink);line-height:1.6;font-family:system-ui,"Hiragino Sans",
"Yu Gothic UI","Noto Sans CJK JP",sans-serif}
main{max-width:1060px;margin:0 auto;padding:36px 20px 60px}h1{font-size:1.6rem}h2{font-size:1.15rem}
small,.id{color:var(--soft);font-size:.8rem;font-weight:400}.bad{color:var(--bad)}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td{padding:4px 18px 4px 0;border-bottom:1px solid var(--line)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));gap:14px}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;overflow:hidden}
img{display:block;width:100%;aspect-ratio:1;object-fit:contain;background:var(--ground)}
figcaption{padding:8px 12px 10px;overflow-wrap:anywhere;font-size:.9rem}p{margin:2px 0}
"""


class Census:
    """Counts over the rows of a job, shown to it in order, and which of them the page shows."""

    def __init__(self, rows: int) -> None:
        self._every = max(rows // SHOWN, 1)
        self.counts: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.shown: list[tuple[int, Row]] = []
        """(number in the job, row), spread evenly."""
        self.failed: list[Row] = []

    def look(self, rows: list[Row]) -> None:
        for row in rows:
            number = self.counts["rows"]
            self.counts["rows"] += 1
            self.counts["tokens"] += row["n_tokens"] or 0
            if row["status"] == "error":
                self.counts["errors"] += 1
                self.codes[row["error_code"]] += 1
                self.failed += [row] if len(self.failed) < FAILURES_SHOWN else []
                continue
            self.counts["cut_short"] += row["finish_reason"] == "length"
            self.counts["empty"] += not row["text"].strip()
            self.counts["not_japanese"] += row["n_characters"] > 0 and row["japanese"] < DRIFTED
            self.counts["simplified_chinese"] += row["simplified_chinese"] > 0
            self.counts["repetitive"] += row["repetition"] >= REPEATED
            self.counts["near_duplicates"] += row["duplicate_of"] is not None
            if number % self._every == 0 and len(self.shown) < SHOWN:
                self.shown.append((number, row))

    def record(self) -> dict[str, Any]:
        names = ("rows", "errors", "tokens", "cut_short", "empty", "not_japanese", "simplified_chinese", "repetitive")
        counted = {name: self.counts[name] for name in (*names, "near_duplicates")}
        return counted | {"error_codes": dict(sorted(self.codes.items()))}


def write_summary(path: Path, plan: Plan, ledger: Ledger, census: Census) -> None:
    """The page: counts, a contact sheet, the first rows that failed. Every text that is not ours is escaped."""
    seconds = sum(record.seconds for record in ledger.records.values())
    counts = census.record()
    codes = counts.pop("error_codes")
    figures = counts | {f"error: {code}": count for code, count in codes.items()}
    figures |= {"hours of all processes": round(seconds / 3600, 3)}
    figures |= {"images a second and process": round(plan.num_items / seconds, 2) if seconds else "–"}
    about = [("input", plan.settings.source), ("model", plan.settings.model_hash), ("units", plan.units)]
    about += [("prompt", prompt) for prompt in plan.settings.prompts]
    cards = "".join(_card(plan, number, row) for number, row in census.shown)
    failed = [(row["id"], f"{row['error_code']}: {row['error']}") for row in census.failed]
    write_text(
        path,
        '<!doctype html><html lang="ja"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>jvlm caption</title><style>{_STYLE}</style><main><h1>キャプション <small>captions</small></h1>"
        f"{_table(about)}<h2>件数 <small>counts</small></h2>{_table(figures.items())}"
        f'<h2>見本 <small>samples</small></h2><div class="cards">{cards}</div>'
        + (f"<h2>失敗 <small>failed</small></h2>{_table(failed)}" if failed else "")
        + "</main></html>\n",
    )


def _table(rows: Any) -> str:
    return f"<table>{''.join(f'<tr><td>{_esc(name)}</td><td>{_esc(value)}</td></tr>' for name, value in rows)}</table>"


def _card(plan: Plan, number: int, row: Row) -> str:
    picture = _thumbnail(plan, number // plan.settings.rows_per_item)
    shown = f'<img src="{picture}" alt="">' if picture else ""
    like = f'<p class="id">≈ {_esc(row["duplicate_of"])}</p>' if row["duplicate_of"] else ""
    text = f'<p>{_esc(row["text"])}</p><p class="id">{_esc(row["id"])}</p>{like}'
    return f"<figure>{shown}<figcaption>{text}</figcaption></figure>"


def _thumbnail(plan: Plan, number: int) -> str | None:
    """A small copy of an item's first picture as a data URI; None where it is not to be had any more."""
    try:
        image, buffer = load_image(image_bytes(content(plan.item(number), plan.settings.images).images[0])), BytesIO()
    except JvlmError:
        return None
    image.thumbnail((SIDE, SIDE))
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"


def _esc(value: object) -> str:
    return html.escape(str(value), quote=True)
