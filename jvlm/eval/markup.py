"""Small pieces of the report page. Every text that is not ours goes through `esc`."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

NONE = '<span class="na">なし / n/a</span>'
MODELS = ("instruct", "prefer", "medical")  # in the order in which the recipe makes them


def at(data: Any, *keys: str) -> Any:
    """The value under nested keys, None when any of them is missing."""
    for key in keys:
        if not isinstance(data, dict) or key not in data:
            return None
        data = data[key]
    return data


def last_model(models: Any) -> str | None:
    """The last model that was evaluated, by the order in which a recipe makes them."""
    return next((name for name in reversed(MODELS) if at(models, name)), None)


def esc(value: object) -> str:
    """Text as text, whatever stands in it."""
    return html.escape(str(value), quote=True)


def show(value: float | None, unit: str) -> str:
    """A figure in its unit, or 「なし / n/a」."""
    if value is None:
        return NONE
    if unit == "%":
        return f"{value:.1%}"
    if unit == "points":
        return f"{value * 100:+.1f} <small>pt</small>"
    if unit == "times":
        return f"{value:.2f} ×"
    if unit == "time":
        return f"{int(value) // 60} <small>min</small> {int(value) % 60:02d} <small>s</small>"
    return f"{value:.2f} <small>GiB</small>" if unit == "gib" else f"{value:.3f}"


def section(japanese: str, english: str, body: str, note: str = "") -> str:
    """A titled block; without a body it says that there is nothing."""
    text = f'<p class="note">{note}</p>' if note else ""
    return f'<section><h2>{japanese} <span lang="en">{english}</span></h2>{text}{body or f"<p>{NONE}</p>"}</section>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Cells are markup already; `kind` is the style class. Empty without rows."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    if not body:
        return ""
    heads = "".join(f"<th>{cell}</th>" for cell in head)
    top = f"<thead><tr>{heads}</tr></thead>" if head else ""
    return f'<div class="scroll"><table class="{kind}">{top}<tbody>{body}</tbody></table></div>'


def both(japanese: str, english: str) -> str:
    """Both languages, the English smaller."""
    return f'{esc(japanese)} <span class="en" lang="en">{esc(english)}</span>'


def tile(value: str, japanese: str, english: str) -> str:
    """A figure in large type over its name."""
    return f'<div class="tile"><b>{value}</b>{both(japanese, english)}</div>'


def count(value: Any) -> str:
    """A whole number with separators, or 「なし / n/a」."""
    return f"{value:,}" if isinstance(value, int | float) else NONE
