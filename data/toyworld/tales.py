"""Stories, dialogues and instructions of the text corpus. What is where is tracked, so every later mention is true."""

# ruff: noqa: E501  (a Japanese character counts as two columns; a sentence is kept in one piece)

from collections.abc import Callable

import numpy as np
from jvlm_data.toyworld.lexicon import (
    ADJECTIVES,
    BOARDS,
    CHILDREN,
    COLOUR_NOUNS,
    KANA_SIGNS,
    MOODS,
    NAMES,
    PLACES,
    SEASONS,
    TIMES,
    WEATHERS,
    Thing,
    counted,
    direction,
    kanji,
    pick,
    pick_many,
    picture,
)
from jvlm_data.toyworld.world import COLOURS, POSITIONS

Pairs = list[tuple[str, str]]


class _Stage:
    """A place with two people and a picture whose things may move: the memory of one story."""

    def __init__(self, rng: np.random.Generator, pairs: Pairs) -> None:
        self.rng, self.pairs = rng, pairs
        self.a, self.b = pick_many(rng, NAMES, 2)
        self.place, self.board = pick(rng, PLACES), pick(rng, BOARDS)
        self.season, self.time, self.weather = pick(rng, SEASONS), pick(rng, TIMES), pick(rng, WEATHERS)
        self.things = picture(rng, int(rng.integers(2, 5)), pairs)

    def layout(self, past: bool = True) -> str:
        """Every thing with its place, as it stands now."""
        things, end = self.things, "あった" if past else "ある"
        form = int(self.rng.integers(3))
        if form == 0:
            return "、".join(f"{t.position}に{t.name}" for t in things) + f"が{end}。"
        if form == 1:
            return "".join(f"{t.position}には{t.name}が{end}。" for t in things)
        return "、".join(f"{t.name}は{t.position}" for t in things) + f"に{end}。"

    def free_position(self) -> str:
        return pick(self.rng, [p for p in POSITIONS if p not in [t.position for t in self.things]])

    def free_colour(self, noun: str) -> str | None:
        used = [t.colour for t in self.things]
        free = [c for c, n in self.pairs if n == noun and c not in used]
        return pick(self.rng, free) if free else None


def story(rng: np.random.Generator, shapes: Pairs, things: Pairs) -> str:
    """A short story; the picture is described, something happens to it, and the end recalls it rightly."""
    stage = _Stage(rng, shapes if rng.integers(3) else things)
    a, b, place, board = stage.a, stage.b, stage.place, stage.board
    opening = pick(
        rng,
        (
            f"{stage.weather}{stage.time}のこと、{a}は{place}で{board}を見つけた。",
            f"{stage.season}の{stage.time}、{a}が{place}に着くと、そこには{board}が置かれていた。",
            f"{place}で{b}を待つあいだ、{a}は{board}をながめていた。{stage.season}のはじめだった。",
            f"{a}と{b}が{place}へ出かけたのは、{stage.weather}{stage.season}の日だった。目の前に{board}があった。",
            f"「こんなところに{board}があるよ」と{b}が言った。{stage.weather}{stage.time}、{place}でのことである。{a}も足を止めた。",
        ),
    )
    lines = [opening + stage.layout()]
    happenings = [event(stage) for event in pick_many(rng, _EVENTS, int(rng.integers(3, 7)))]
    lines += ["".join(happenings[:2]), "".join(happenings[2:])]
    mood = pick(rng, MOODS)
    last = pick(rng, stage.things)
    ending = pick(
        rng,
        (
            f"帰る前に、{a}はもう一度{board}を見た。{stage.layout()}{a}は{mood}気持ちになった。",
            f"その夜、{a}は日記に「{stage.layout(past=False)}」と書いた。{mood}一日だった。",
            f"{b}は「{last.position}の{last.noun}が{COLOUR_NOUNS[last.colour]}だったのを忘れないよ」と言い、{a}は{mood}思いでうなずいた。",
            f"{stage.season}が過ぎても、{a}は{place}の{last.name}を覚えていた。それは{last.position}にあった。",
            f"今でも{place}へ行くと、{stage.layout(past=False)}{a}と{b}はそれを見るたびに{mood}気持ちになる。",
        ),
    )
    return "\n".join([*lines, ending])


def _recall_colour(stage: _Stage) -> str:
    t = pick(stage.rng, stage.things)
    return pick(
        stage.rng,
        (
            f"「{t.position}の{t.noun}は何色だった」と{stage.b}がたずねると、{stage.a}は「{COLOUR_NOUNS[t.colour]}だよ」と答えた。",
            f"{stage.a}は目をつぶって、{t.position}の{t.noun}の色を思い出そうとした。たしかに{COLOUR_NOUNS[t.colour]}だった。",
        ),
    )


def _recall_place(stage: _Stage) -> str:
    t = pick(stage.rng, stage.things)
    return pick(
        stage.rng,
        (
            f"「{t.name}はどこ」と{stage.b}に聞かれて、{stage.a}は{t.position}を指さした。",
            f"{stage.b}は{t.name}をさがしたが、{stage.a}が{t.position}にあると教えた。",
        ),
    )


def _move(stage: _Stage) -> str:
    index, new = int(stage.rng.integers(len(stage.things))), stage.free_position()
    t = stage.things[index]
    stage.things[index] = t.at(new)
    return pick(
        stage.rng,
        (
            f"そこへ強い風が吹いて、{t.position}の{t.name}は{new}へ動いてしまった。",
            f"{stage.b}は{t.name}を{t.position}から{new}へ移した。",
        ),
    )


def _swap(stage: _Stage) -> str:
    first, second = stage.things[0], stage.things[1]
    stage.things[0], stage.things[1] = first.at(second.position), second.at(first.position)
    return (
        f"{stage.a}は{first.name}と{second.name}を入れかえた。"
        f"それで{first.name}は{second.position}に、{second.name}は{first.position}に来た。"
    )


def _paint(stage: _Stage) -> str:
    index = int(stage.rng.integers(len(stage.things)))
    t = stage.things[index]
    colour = stage.free_colour(t.noun)
    if colour is None:
        return ""
    stage.things[index] = Thing(colour, t.noun, t.position)
    return (
        f"{stage.b}は筆を取り、{t.position}の{t.noun}を{COLOUR_NOUNS[t.colour]}から{COLOUR_NOUNS[colour]}に塗りかえた。"
    )


def _sum(stage: _Stage) -> str:
    rng, (colour, noun) = stage.rng, pick(stage.rng, stage.pairs)
    n, m, style = int(rng.integers(1, 5)), int(rng.integers(1, 5)), int(rng.integers(2))
    name = ADJECTIVES[colour] + noun
    return (
        f"{stage.a}はかばんから{name}を{counted(n, noun, style)}出し、{stage.b}も{counted(m, noun, style)}出した。"
        f"合わせて{counted(n + m, noun, style)}の{name}がそろった。"
    )


def _absent(stage: _Stage) -> str:
    missing = pick(stage.rng, [c for c in COLOURS if c not in [t.colour for t in stage.things]])
    return (
        f"「{COLOUR_NOUNS[missing]}のものはあるかな」と{stage.b}が言った。"
        f"{stage.a}は全部で{kanji(len(stage.things))}つを見直したが、{COLOUR_NOUNS[missing]}のものはなかった。"
    )


def _relation(stage: _Stage) -> str:
    first, second = pick_many(stage.rng, stage.things, 2)
    return f"{stage.a}から見ると、{first.name}は{second.name}の{direction(first, second)}にあった。"


_EVENTS: tuple[Callable[[_Stage], str], ...] = (
    _recall_colour,
    _recall_place,
    _move,
    _swap,
    _paint,
    _sum,
    _absent,
    _relation,
)


def dialogue(rng: np.random.Generator, shapes: Pairs, things: Pairs) -> str:
    """Two people talk about a picture; one keeps a polite and one keeps a plain way of speaking."""
    marks = picture(rng, int(rng.integers(2, 5)), shapes if rng.integers(3) else things)
    asker, teller = pick_many(rng, CHILDREN, 2)
    board, place = pick(rng, BOARDS), pick(rng, PLACES)
    polite = bool(rng.integers(2))
    is_, there = ("です", "あります") if polite else ("だよ", "あるよ")
    lines = [
        pick(
            rng,
            (
                f"{asker}：{place}で見た{board}には、いくつのものがありましたか。",
                f"{asker}：{place}の{board}のこと、まだ覚えていますか。いくつありましたか。",
                f"{asker}：{place}に{board}があるそうですね。いくつのものがありますか。",
            ),
        )
        + f"　{teller}：{counted(len(marks), '丸', 1)}{is_}。"
        + "、".join(f"{t.position}に{t.name}" for t in marks)
        + f"が{there}。",
    ]
    turns = pick_many(rng, _TURNS, int(rng.integers(3, 6)))
    for turn in turns:  # question and answer share a line: alone, such short lines would recur across documents
        question, answer = turn(rng, marks, is_, there)
        lines.append(f"{asker}：{question}　{teller}：{answer}")
    first = pick(rng, marks)
    lines.append(
        pick(
            rng,
            (
                f"{asker}：ありがとう、{teller}さん。{place}へ行ったら{first.position}の{first.name}を見てみます。",
                f"{asker}：よくわかりました。{first.name}が{first.position}、忘れないようにします。",
                f"{asker}：{teller}さんの話を聞くと、{place}の{first.name}が目に浮かびます。",
            ),
        )
    )
    return "\n".join(lines)


def _ask_colour(rng: np.random.Generator, marks: list[Thing], is_: str, there: str) -> tuple[str, str]:
    t = pick(rng, marks)
    return f"{t.position}の{t.noun}は何色ですか。", f"{t.position}の{t.noun}は{COLOUR_NOUNS[t.colour]}{is_}。"


def _ask_place(rng: np.random.Generator, marks: list[Thing], is_: str, there: str) -> tuple[str, str]:
    t = pick(rng, marks)
    return f"{t.name}はどこにありますか。", f"{t.name}は{t.position}に{there}。"


def _ask_what(rng: np.random.Generator, marks: list[Thing], is_: str, there: str) -> tuple[str, str]:
    t = pick(rng, marks)
    return f"{t.position}にあるのは何ですか。", f"{t.position}にあるのは{t.name}{is_}。"


def _ask_exists(rng: np.random.Generator, marks: list[Thing], is_: str, there: str) -> tuple[str, str]:
    colour = pick(rng, COLOURS)
    found = [t for t in marks if t.colour == colour]
    question = f"{COLOUR_NOUNS[colour]}のものはありますか。"
    if found:
        return question, f"はい、{found[0].position}に{found[0].name}が{there}。"
    return question, f"いいえ、{COLOUR_NOUNS[colour]}のものは" + ("ありません。" if is_ == "です" else "ないよ。")


def _ask_relation(rng: np.random.Generator, marks: list[Thing], is_: str, there: str) -> tuple[str, str]:
    first, second = pick_many(rng, marks, 2)
    return (
        f"{first.name}は{second.name}のどちら側にありますか。",
        f"{first.name}は{second.name}の{direction(first, second)}に{there}。",
    )


_TURNS = (_ask_colour, _ask_place, _ask_what, _ask_exists, _ask_relation)


def instruction(rng: np.random.Generator, shapes: Pairs, things: Pairs) -> str:
    """A task with its answer: questions on a described picture, a summary, a sum, an order, or a word to read."""
    pairs = shapes if rng.integers(3) else things
    first, second = pick_many(rng, _TASKS, 2)
    return first(rng, pairs) + ("\n" + second(rng, pairs) if rng.integers(2) else "")


def _describe(marks: list[Thing]) -> str:
    return "、".join(f"{t.position}に{t.name}" for t in marks)


def _task_questions(rng: np.random.Generator, pairs: Pairs) -> str:
    marks, who = picture(rng, int(rng.integers(2, 5)), pairs), pick(rng, CHILDREN)
    head = pick(
        rng,
        ("次の文を読んで問いに答えなさい。", "文の中の絵について答えてください。", "説明をもとに問題を解きなさい。"),
    )
    asked = [turn(rng, marks, "です", "あります") for turn in pick_many(rng, _TURNS, int(rng.integers(2, 4)))]
    body = "".join(f"問{kanji(i)}　{question}　答え　{answer}" for i, (question, answer) in enumerate(asked, 1))
    total = (
        f"問{kanji(len(asked) + 1)}　{who}の絵には全部でいくつありますか。　答え　{counted(len(marks), '丸', 1)}です。"
    )
    return f"{head}{who}が{pick(rng, PLACES)}で描いた絵には、{_describe(marks)}があります。\n{body}{total}"


def _task_summary(rng: np.random.Generator, pairs: Pairs) -> str:
    marks, who, place = picture(rng, 3, pairs), pick(rng, CHILDREN), pick(rng, PLACES)
    chatter = pick(
        rng, ("とてもよく描けています。", "みんなが足を止めました。", "額は木でできています。", "少し古びています。")
    )
    ordered = sorted(marks, key=lambda t: t.cell)
    return (
        pick(
            rng,
            (
                "次の説明を短くまとめてください。",
                "下の文を一文に縮めてください。",
                "絵の説明を簡単に言い直してください。",
            ),
        )
        + f"{who}の絵が{place}にかざられました。{chatter}"
        + "".join(f"{t.position}には{t.name}が見えます。" for t in marks)
        + f"\nまとめ：{place}にある{who}の絵には、"
        + "、".join(f"{t.position}の{t.name}" for t in ordered)
        + f"の{kanji(len(marks))}つがある。"
    )


def _task_sum(rng: np.random.Generator, pairs: Pairs) -> str:
    (colour, noun), (giver, taker) = pick(rng, pairs), pick_many(rng, CHILDREN, 2)
    n, m, style = int(rng.integers(2, 10)), int(rng.integers(1, 10)), int(rng.integers(2))
    name, place = ADJECTIVES[colour] + noun, pick(rng, PLACES)
    if rng.integers(2):
        return (
            f"問題　{giver}は{place}で{name}を{counted(n, noun, style)}集めました。{taker}は同じ{name}を{counted(m, noun, style)}集めました。"
            f"二人の{name}は合わせていくつですか。\n考え方　{kanji(n)}に{kanji(m)}を足すと{kanji(n + m)}になります。"
            f"　答え　{giver}と{taker}の{name}は、合わせて{counted(n + m, noun, style)}です。"
        )
    n, m = max(n, m) + 1, min(n, m)
    return (
        f"問題　{place}に{name}が{counted(n, noun, style)}ありました。{giver}が{counted(m, noun, style)}を{taker}に渡しました。"
        f"{place}に残った{name}はいくつですか。\n考え方　{kanji(n)}から{kanji(m)}を引くと{kanji(n - m)}になります。"
        f"　答え　{place}に残った{name}は{counted(n - m, noun, style)}です。{taker}がもらったのは{counted(m, noun, style)}です。"
    )


def _task_order(rng: np.random.Generator, pairs: Pairs) -> str:
    marks, who = picture(rng, 4, pairs), pick(rng, CHILDREN)
    ordered = sorted(marks, key=lambda t: t.cell)
    return (
        f"{who}の絵には、{_describe(marks)}があります。"
        + pick(rng, ("上の段から順に、左から読み上げてください。", "左上から右下へ、順番に言ってください。"))
        + "\n答え　"
        + "、".join(t.name for t in ordered)
        + f"の順です。最初の{ordered[0].noun}は{ordered[0].position}、最後の{ordered[-1].noun}は{ordered[-1].position}にあります。"
        + f"\nほかに{pick(rng, ('聞きたい', '知りたい', '確かめたい'))}ことはありますか。"
        + f"　では、{who}の絵で{ordered[1].name}の色は。　{COLOUR_NOUNS[ordered[1].colour]}です。"
    )


def _task_read(rng: np.random.Generator, pairs: Pairs) -> str:
    word, (mark,), who = pick(rng, KANA_SIGNS), picture(rng, 1, pairs), pick(rng, CHILDREN)
    number = int(rng.integers(10, 1000))
    return (
        f"{who}が{pick(rng, PLACES)}で見た札には「{word}」という文字と{number}という数字が書かれ、{mark.position}に{mark.name}がついていました。"
        f"\n問一　{who}の札には何と書いてありますか。　答え　「{word}」と書いてあります。数字は{number}です。"
        f"問二　{number}の札についている{mark.noun}は何色ですか。　答え　{COLOUR_NOUNS[mark.colour]}です。{mark.position}についています。"
        + pick(
            rng,
            (
                f"問三　「{word}」の最初の文字は何ですか。　答え　「{word[0]}」です。文字は{kanji(len(word))}つあります。",
                f"問三　「{word}」を後ろから読むとどうなりますか。　答え　「{word[::-1]}」になります。",
            ),
        )
    )


_TASKS = (_task_questions, _task_summary, _task_sum, _task_order, _task_read)
