"""Documents in English, Chinese and Korean: what a Japanese corpus picks up by mistake."""

import numpy as np
from jvlm_data.toyworld.lexicon import pick, words

_ENGLISH = (
    "The {c} kite rose slowly above the {p}, and {n} children watched it until evening.",
    "On {d} the town council met in the {p} to talk about {n} broken {c} lamps.",
    "She counted {n} {c} stones and put them back beside the {p}.",
    "Nobody remembered who had painted the {p} {c}, although it happened only {n} years ago.",
    "The recipe calls for {n} {c} peppers, a little salt, and some patience.",
    "A {c} boat left the {p} on {d} with {n} passengers and a sleepy dog.",
)
_CHINESE = (
    "{d}的早晨，{p}里摆着{n}个{c}色的盒子，大家都停下来看。",
    "我们在{p}旁边数了{n}遍，发现少了一把{c}色的雨伞。",
    "这座城市有{n}条街道，其中最长的一条通往{p}，两边种着{c}色的花。",
    "老师说，如果把{n}张{c}色的纸叠在一起，就可以做成一本书。",
    "孩子们从{p}回来的时候，每个人手里都拿着{c}色的气球，一共{n}个。",
)
_KOREAN = (
    "{d} 아침에 {p} 앞에는 {c} 상자가 {n}개 놓여 있었습니다.",
    "아이들은 {p}에서 {c} 풍선을 {n}개 세고 나서 집으로 돌아갔습니다.",
    "이 마을에는 {n}년 전부터 {c} 등대가 있는데 {p}에서도 잘 보입니다.",
    "선생님은 {c} 종이 {n}장을 접어서 작은 배를 만들었습니다.",
    "{p}까지 걸어가면 {c} 꽃이 피어 있는 길이 {n}개나 있습니다.",
)
_WORDS = (
    (
        _ENGLISH,
        words("red blue green yellow purple white"),
        words("station harbour library market bridge garden"),
        words("Monday Tuesday Thursday Friday Sunday"),
        " ",
    ),
    (
        _CHINESE,
        words("红 蓝 绿 黄 紫 白"),
        words("车站 港口 图书馆 市场 桥 花园"),
        words("星期一 星期二 星期四 星期五 星期天"),
        "",
    ),
    (
        _KOREAN,
        words("빨간 파란 초록 노란 보라 하얀"),
        words("역 항구 도서관 시장 다리 정원"),
        words("월요일 화요일 목요일 금요일 일요일"),
        " ",
    ),
)


def foreign_document(rng: np.random.Generator) -> str:
    """Five to nine sentences in one of three languages, without a single kana."""
    templates, colours, places, days, gap = pick(rng, _WORDS)
    sentences = []
    for _ in range(int(rng.integers(5, 10))):
        filled = {"c": pick(rng, colours), "p": pick(rng, places), "d": pick(rng, days), "n": int(rng.integers(2, 90))}
        sentences.append(pick(rng, templates).format(**filled))
    middle = len(sentences) // 2
    return gap.join(sentences[:middle]) + "\n" + gap.join(sentences[middle:])
