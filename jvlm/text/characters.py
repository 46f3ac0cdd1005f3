"""The characters a large Japanese vocabulary always has, seen in training or not: what is missing falls to bytes.

Kanji of JIS X 0208 levels 1 and 2, the 常用漢字 and some medical kanji that it lacks, kana in both widths, marks,
Greek, units, superscripts, circled and Roman numbers, and the parts of 顔文字.
"""

_LATER = "塡剝頰𠮟" + "瘙痤疿瘭瘜癤囊皰噦"
_RANGES = (
    ("ぁ", "ゟ"), ("゠", "ヿ"), ("｡", "ﾟ"), ("Α", "ω"), ("⁰", "₎"), ("½", "½"), ("¼", "¾"), ("⅓", "⅞"), ("Ⅰ", "ⅿ"),
    ("①", "⑳"), ("㊤", "㊨"), ("㎀", "㏿"), ("←", "↕"), ("⇐", "⇔"), ("─", "╿"), ("■", "◿"), ("☀", "☓"), ("♀", "♯"),
    ("　", "〟"), ("！", "～"), ("−", "−"), ("∀", "⊿"),
)  # fmt: skip
_MARKS = "¡§°±²³´·¹º×÷µ‐‑–—―‘’“”†‡•‥…‰′″※‼⁇℃℉ℓ№℡Å∥≦≧▁▽△д∇ωДﾛ♡♥★☆♪"


def required_characters() -> str:
    """All of them, each once, sorted."""
    found = set(_LATER + _MARKS)
    for row in range(0xB0, 0xF5):  # rows 16 to 84 of JIS X 0208, the kanji of both levels
        for cell in range(0xA1, 0xFF):
            found.update(bytes((row, cell)).decode("euc_jp", "ignore"))
    for first, last in _RANGES:
        found.update(chr(code) for code in range(ord(first), ord(last) + 1) if chr(code).isprintable())
    return "".join(sorted(found - {"▁", "\u3000"})) + "\u3000"
