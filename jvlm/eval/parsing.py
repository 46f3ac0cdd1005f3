"""Reading an answer out of generated Japanese text. What cannot be read is None: counted, never drawn by lot.

The parser is part of the benchmark: `VERSION` goes into the results, and the test's case table is its meaning.
"""

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

from jvlm.eval.items import ExamItem, Option

VERSION = "ja-answers-v1"

_KANA = "アイウエオカキクケコ"
_CIRCLED = str.maketrans(
    {chr(0x2460 + i): f" {i + 1} " for i in range(10)}  # ①, before NFKC makes ①③ the number 13
    | {chr(0x2474 + i): f" {i + 1} " for i in range(10)}  # ⑴
    | {chr(0x2776 + i): f" {i + 1} " for i in range(10)}  # ❶
    | {chr(0x24D0 + i): f" {chr(97 + i)} " for i in range(10)}  # ⓐ
    | {chr(0x24B6 + i): f" {chr(97 + i)} " for i in range(10)}  # Ⓐ
    | {chr(0x32D0 + i): f" {kana} " for i, kana in enumerate(_KANA)}  # ㋐
)
_THOUGHT = re.compile(r"<think>.*?(</think>|$)", re.S)
_CUE = re.compile(r"(?:正解|解答|回答|答え|答|answer)(?:\s*(?:番号|の選択肢))?\s*(?:は|:|が|is)+\s*", re.I)
_NEGATED = r"(?=[」』)】\]\s]*(?:は|では|じゃ|も)\s*(?:な[くい]|ありません|誤|違|間違|不適|正しくな))"
_COUNTER = r"つ目|つ|個|本|枚|人|回|度|日|年|か月|ヶ月|月|時間|時|分|秒|件|例|倍|点|割|%|mg|ml|cm|mm|kg|g"


def parse_answer(text: str, item: ExamItem) -> list[str] | None:
    """The answer to an exam item: labels in label order, or one number as text; None when unreadable."""
    if item.answer_type == "numeric":
        number = parse_number(text)
        return None if number is None else [number]
    return parse_choices(text, item.options, item.n_select)


def parse_choices(text: str, options: Sequence[Option], n_select: int) -> list[str] | None:
    """Labels named in `text` by letter, kana, number, circled label or choice text, in label order.

    Naming more options than may be marked, or labels and texts that contradict each other, says nothing: None.
    """
    text = _THOUGHT.sub("", text)
    folded = _fold(text)
    whole = [option.label for option in options if _bare(_fold(option.text)) == _bare(folded) != ""]
    if whole:  # a choice text such as "3個" or "A型" must not be read as a label
        return whole[:1]
    parts = [re.split(r"[\n。]", folded[match.end() :])[0] for match in _CUE.finditer(folded)]
    for part in [*reversed(parts), folded]:
        found = _choices_in(part, options)
        if found is None or found:
            return found if found and len(found) <= n_select else None
    return None


def parse_number(text: str) -> str | None:
    """The one number stated in `text`, in plain decimal form ("1200", "0.5", "-3"); None for none or several."""
    folded = _fold(_superscripts(_THOUGHT.sub("", text)))
    folded = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", folded)
    parts = [re.split(r"[\n。]", folded[match.end() :])[0] for match in _CUE.finditer(folded)]
    if "=" in folded:
        parts.insert(0, folded.rsplit("=", 1)[1].split("\n")[0])
    for part in [*reversed(parts), folded]:
        numbers = _arabic_numbers(part) or _kanji_numbers(part)
        if numbers:
            return _plain(numbers[0]) if len(set(numbers)) == 1 else None
    return None


def _choices_in(text: str, options: Sequence[Option]) -> list[str] | None:
    """Labels named in the text; None when a label and a choice text contradict each other."""
    named, rest = _by_text(text, options)
    labelled = _by_label(rest, [option.label for option in options])
    if named and labelled and set(labelled) != set(named):
        is_number = re.search(r"\d", rest) and not re.search(r"[a-z]", rest)
        return named if is_number else None  # a number beside a choice text need not be a label
    chosen = set(named) | set(labelled)
    return [option.label for option in options if option.label in chosen]


def _by_text(text: str, options: Sequence[Option]) -> tuple[list[str], str]:
    """Labels whose choice text occurs (longest first, each place used once), and the text without them."""
    named = []
    for option in sorted(options, key=lambda o: -len(_fold(o.text))):
        wanted = _fold(option.text).strip()
        if not wanted:
            continue
        start = r"(?<![\d.])" if wanted[0].isdigit() else r"(?<![a-z])" if wanted[0].isascii() else ""
        end = r"(?![\d.])" if wanted[-1].isdigit() else r"(?![a-z])" if wanted[-1].isascii() else ""
        pattern = start + re.escape(wanted) + end
        text = re.sub(pattern + _NEGATED, " ", text)
        if re.search(pattern, text):
            named.append(option.label)
            text = re.sub(pattern, " ", text)
    return named, text


def _by_label(text: str, labels: Sequence[str]) -> list[str]:
    """Labels named by letter, else by number, else by kana; never a mixture."""
    bare = _bare(text)
    alphabets = [[label.lower() for label in labels], list("123456789")[: len(labels)], list(_KANA)[: len(labels)]]
    for alphabet in alphabets[::2]:  # "ac", "アウ": nothing but distinct labels, in order
        positions = [alphabet.index(mark) if mark in alphabet else -1 for mark in bare]
        if len(bare) > 1 and -1 not in positions and positions == sorted(set(positions)):
            return [labels[i] for i in positions]
    marks = "".join(map(re.escape, alphabets[0]))
    kana = "".join(alphabets[2])
    patterns = [
        rf"(?<![a-z0-9ァ-ヴー])([{marks}])(?![a-z0-9]|\.[a-z]|\s(?!and\b|or\b)[a-z]{{2}})",
        rf"(?<![\d.,a-z第])([1-9])(?!\d|\.\d|\s*(?:{_COUNTER}))",
        rf"(?<![ァ-ヴー])([{kana}])(?![ァ-ヴー])",
    ]
    for alphabet, pattern in zip(alphabets, patterns, strict=True):
        found = {match.group(1) for match in re.finditer(pattern, re.sub(pattern + _NEGATED, " ", text))}
        if found:
            return [label for label, mark in zip(labels, alphabet, strict=False) if mark in found]
    return []


def _arabic_numbers(text: str) -> list[Decimal]:
    text = re.sub(r"マイナス\s*(?=\d)", "-", text)
    numbers = []
    pattern = r"(?<![a-z0-9.^問第図])(-?)(\d+(?:\.\d+)?|\.\d+)(?:\s*[x×*]\s*10\^?(-?\d+))?(?!\d)"
    for match in re.finditer(pattern, text):
        sign, digits, exponent = match.groups()
        negative = sign and not re.search(r"[\d個つ]\s*$", text[: match.start()])  # "3-5" is a range, not a minus
        numbers.append(Decimal(digits).scaleb(int(exponent or 0)) * (-1 if negative else 1))
    return numbers


_DIGITS = {char: value for value, char in enumerate("〇一二三四五六七八九")} | {"零": 0}
_KANJI = re.compile(
    rf"(?<![一-鿿])([{''.join(_DIGITS)}十百千万]+)(?:[点・]([{''.join(_DIGITS)}]+))?"
    rf"(?=$|[\s。、,.!)」』]|です|でし|だ|で[あす]|と|{_COUNTER})"
)


def _kanji_numbers(text: str) -> list[Decimal]:
    """Kanji numerals that end like a number (a counter, です, 。 or the end), so that 一般 and 三角 are none."""
    text = re.sub(r"^(約|およそ|計|合計|全部で)", "", text.strip())
    numbers = []
    for match in _KANJI.finditer(text):
        value = _kanji_value(match.group(1))
        if match.group(2):
            value += Decimal("0." + "".join(str(_DIGITS[char]) for char in match.group(2)))
        numbers.append(value)
    return numbers


def _kanji_value(text: str) -> Decimal:
    if not re.search("[十百千万]", text):  # 一二〇: read place by place
        return Decimal("".join(str(_DIGITS[char]) for char in text))
    total = group = digit = 0
    for char in text:
        if char in _DIGITS:
            digit = digit * 10 + _DIGITS[char]
        elif char == "万":
            total, group, digit = total + (group + digit or 1) * 10_000, 0, 0
        else:
            group, digit = group + (digit or 1) * {"十": 10, "百": 100, "千": 1000}[char], 0
    return Decimal(total + group + digit)


def _superscripts(text: str) -> str:
    return re.sub(r"[⁻⁰¹²³⁴-⁹]+", lambda m: "^" + unicodedata.normalize("NFKC", m.group()), text)


def _fold(text: str) -> str:
    """NFKC, lower case, one kind of minus and wave dash; markdown emphasis dropped."""
    text = unicodedata.normalize("NFKC", text.translate(_CIRCLED)).lower()
    return re.sub(r"[*_`]{1,3}(?!\s*10)", "", re.sub(r"[−‐–—]", "-", text)).replace("〜", "~").strip()


def _bare(text: str) -> str:
    """Without spaces, punctuation, brackets and a closing です/だ/である."""
    text = re.sub(r"[\s。、,.!?・:;「」『』()\[\]【】\"']", "", text)
    return re.sub(r"(です|である|だ|でしょう)$", "", text)


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
