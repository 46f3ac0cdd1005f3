"""Personal data in a line: mail addresses, telephone numbers, house numbers and postal codes become placeholders.

Patterns only: names are not found, and a number is a telephone number by its form (ten or eleven digits that begin with
0, or +81) or by the word before it. Toll-free and service numbers (0120, 0800, 0570) are a company's and stay, as do
mail addresses of documentation (example.com). Of an address prefecture and city stay; what leads to a house goes.
Expects normalised text (`jvlm.text.normalise`): ASCII digits.
"""

import re
from collections import Counter

MAIL, TELEPHONE, ADDRESS, POSTAL_CODE = "〈メール〉", "〈電話番号〉", "〈住所〉", "〈郵便番号〉"

_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@(?!example\.)[A-Za-z0-9](?:[A-Za-z0-9-]*\.)+[A-Za-z]{2,}(?![\w-])", re.ASCII)
_DASH = "[-‐‑–−ー－]"
_NUMBER = re.compile(
    rf"(?<![\d.,/])(?<!\d[-‐‑–−ー－(])(?:\+81\s?{_DASH}?\s?\(?0?\)?|0)"
    rf"(?:\d{{1,4}}\s?{_DASH}\s?\d{{1,4}}\s?{_DASH}\s?\d{{3,4}}|\d{{0,4}}\s?[(（]\d{{1,4}}[)）]\s?\d{{3,4}}|[5789]0\d{{8}})"
    rf"(?!\d|[.,/]\d|{_DASH}\d)"
)
_LABELLED = re.compile(
    r"(?i)(?<![a-z])((?:tel|fax|電話|携帯|ファックス)(?:番号)?\s*[:：.]?\s*)"
    rf"([(（]?0[\d()（）]*{_DASH}?[\d()（）‐−-]{{5,14}}\d)"
)
_COMPANY = ("0120", "0800", "0570")
_DIGITS = re.compile(r"\d")

_PREFECTURE = "(?:北海道|東京都|(?:大阪|京都)府|[一-龯]{2,3}県)"
_PLACE = "[一-龯々ぁ-んァ-ヶ]"
_COUNT = "(?:[0-9]{1,4}|[一二三四五六七八九十百]{1,4})"
_HOUSE = (
    rf"{_COUNT}丁目(?:{_COUNT}番地?(?:の?{_COUNT}号?)?|{_COUNT}(?:{_DASH}{_COUNT}){{1,2}})?"
    rf"|[0-9]{{1,5}}番地(?:の?[0-9]{{1,4}})?|{_COUNT}番{_COUNT}号|[0-9]{{1,4}}(?:{_DASH}[0-9]{{1,4}}){{1,3}}"
)
_ADDRESS = re.compile(
    rf"((?:{_PREFECTURE}{_PLACE}{{1,8}}?[市区町村郡]|{_PLACE}{{1,6}}?市{_PLACE}{{1,4}}?区|{_PLACE}{{1,6}}?[市区])"
    rf"{_PLACE}{{0,12}}?)(?:{_HOUSE})(?![0-9年月日時人個件円%])"
)
_HOUSE_AHEAD = re.compile(rf"[市区町村郡]{_PLACE}{{0,12}}?(?:{_HOUSE})")  # an address has it; far faster to look for
_POSTAL = re.compile(rf"〒\s?\d{{3}}{_DASH}?\d{{4}}")
_ZERO = re.compile(r"0\s?[\d()（）‐‑–−ー－-]|\+81")
_HINT = re.compile(r"@|0\d|\+81|〒|[市区町村郡]")


def mask(text: str) -> tuple[str, Counter[str]]:
    """The text with placeholders, and how often each was set. Text without personal data comes back unchanged."""
    found: Counter[str] = Counter()
    if not _HINT.search(text):
        return text, found

    def set_place(match: re.Match[str], placeholder: str) -> str:
        found[placeholder] += 1
        return placeholder

    def telephone(match: re.Match[str]) -> str:
        digits = "".join(_DIGITS.findall(match[0])).removeprefix("81" if match[0].startswith("+") else "")
        national = "0" + digits.lstrip("0") if match[0].startswith("+") else digits
        if len(national) not in (10, 11) or national.startswith(_COMPANY):
            return match[0]
        return set_place(match, TELEPHONE)

    def labelled(match: re.Match[str]) -> str:
        digits = "".join(_DIGITS.findall(match[2]))
        if not 9 <= len(digits) <= 11 or digits.startswith(_COMPANY):
            return match[0]
        return match[1] + set_place(match, TELEPHONE)

    if "@" in text:
        text = _MAIL.sub(lambda match: set_place(match, MAIL), text)
    if "〒" in text:
        text = _POSTAL.sub(lambda match: "〒" + set_place(match, POSTAL_CODE), text)
    if _ZERO.search(text):
        text = _NUMBER.sub(telephone, text)
        text = _LABELLED.sub(labelled, text)
    if not _HOUSE_AHEAD.search(text):
        return text, found
    lines = [
        _ADDRESS.sub(lambda match: match[1] + set_place(match, ADDRESS), line) if _HOUSE_AHEAD.search(line) else line
        for line in text.split("\n")
    ]
    return "\n".join(lines), found
