"""The closed vocabulary of the toy world. Changing a list changes the target of every figure in the report."""

COLOURS = ("赤", "青", "緑", "黄", "紫", "橙", "白", "黒")
SHAPES = ("丸", "四角", "三角", "星", "十字", "ひし形", "輪", "ハート")
POSITIONS = ("左上", "上", "右上", "左", "中央", "右", "左下", "下", "右下")  # reading order of the 3 × 3 grid
SIZES = ("大", "小")
TEXTURES = ("無地", "縞", "水玉")
BACKGROUNDS = 56  # 8 tints × 7 light patterns, see draw.py
SIGN_CHARACTERS = "0123456789アカキサトハホメヨル"
SIGN_LENGTHS = (1, 2, 3, 4)
MAX_OBJECTS = 3

QUESTION_KINDS = (
    "colour", "shape", "count", "position", "existence", "comparison", "relation", "reading", "description",
)  # fmt: skip

COUNTERS = {1: ("一つ", "1つ", "一個", "1個"), 2: ("二つ", "2つ", "二個", "2個"), 3: ("三つ", "3つ", "三個", "3個")}

# (colour, shape) never drawn or named together outside the compositional test. Every colour and every shape is in
# one or two of them, and each shares its colour or its shape with another, so that near misses exist among them.
HELD_OUT_PAIRS = (
    ("赤", "三角"), ("青", "ひし形"), ("緑", "丸"), ("黄", "星"), ("紫", "輪"), ("橙", "四角"),
    ("白", "十字"), ("黒", "ハート"), ("赤", "ひし形"), ("緑", "星"), ("紫", "四角"), ("白", "ハート"),
)  # fmt: skip
ALL_PAIRS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
TRAIN_PAIRS = tuple(pair for pair in ALL_PAIRS if pair not in HELD_OUT_PAIRS)
