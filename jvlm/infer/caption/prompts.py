"""What a model is asked about an item: templates with the fields of its row."""

from string import Formatter
from typing import Any

from jvlm.errors import DataError, UsageError
from jvlm.sample import CAPTION_PROMPT

QUESTION = "{question}"
"""The template of a row that has a question, where no other is given."""


def templates(given: tuple[str, ...], fields: dict[str, Any]) -> tuple[str, ...]:
    """Those given; else the row's own question, or that for a caption."""
    return given or ((QUESTION,) if fields.get("question") else (CAPTION_PROMPT,))


def names_in(template: str) -> list[str]:
    """The fields that a template names. Raises UsageError for braces that name none."""
    try:
        names = [name for _, name, spec, conversion in Formatter().parse(template) if name is not None]
        plain = all(name and not set(name) & set(".[]") for name in names)
        plain = plain and not any(spec or conversion for _, _, spec, conversion in Formatter().parse(template))
    except ValueError:
        plain = False
    if not plain:
        fix = "{column} stands for a field of the row, {{ and }} for braces"
        raise UsageError(f"not a prompt: {template!r}", fix=fix)
    return names


def fill(template: str, fields: dict[str, Any]) -> str:
    """The template with the row's fields. Raises DataError naming a field that the row lacks."""
    parts = []
    for text, name, _, _ in Formatter().parse(template):
        parts.append(text)
        if name is not None:
            if fields.get(name) is None:
                raise DataError(f"the row has no {name!r}, which the prompt names")
            parts.append(str(fields[name]))
    return "".join(parts)
