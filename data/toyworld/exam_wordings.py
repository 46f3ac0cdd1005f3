"""How questions of the toy medicine are worded. Training and test share no stem and no opening.

`{image}` is the name of the modality, `{disease}` and `{finding}` are filled in questions without image only.
"""

IMAGE_KINDS = ("finding", "diagnosis", "treatment", "forbidden")
TEXT_KINDS = ("text_diagnosis", "text_finding", "text_treatment", "text_forbidden", "text_season")

TRAIN_STEMS: dict[str, tuple[str, ...]] = {
    "finding": (
        "{image}を示す。所見として正しいのはどれか。",
        "この{image}の所見はどれか。",
        "{image}を別に示す。みられる所見はどれか。",
        "次の{image}に写っている所見を選べ。",
        "{image}から読み取れる所見はどれか。",
        "示された{image}の所見は何か。",
    ),
    "diagnosis": (
        "{image}を示す。診断として正しいのはどれか。",
        "この{image}から考えられる診断はどれか。",
        "{image}を別に示す。この患者の疾患はどれか。",
        "次の{image}の患者の病名を選べ。",
        "{image}の所見から最も疑われる疾患はどれか。",
        "示された{image}の患者の診断は何か。",
    ),
    "treatment": (
        "{image}を示す。治療薬として正しいのはどれか。",
        "この{image}の患者の治療に用いる薬はどれか。",
        "{image}を別に示す。投与すべき治療薬はどれか。",
        "次の{image}の患者の治療薬を選べ。",
        "{image}の所見からみて、治療として正しいのはどれか。",
        "示された{image}の患者に投与する薬は何か。",
    ),
    "forbidden": (
        "{image}を示す。禁忌の薬はどれか。",
        "この{image}の患者に使ってはならない薬はどれか。",
        "{image}を別に示す。投与が禁忌であるのはどれか。",
        "次の{image}の患者に禁忌の薬を選べ。",
        "{image}の所見からみて、避けるべき禁忌薬はどれか。",
        "示された{image}の患者で禁忌となる薬は何か。",
    ),
    "two": (
        "{image}を示す。正しいのはどれか。2つ選べ。",
        "この{image}の患者について正しいものを2つ選べ。",
        "次の{image}について、正しいのはどれか。2つ選べ。",
    ),
    "numeric": (
        "{image}を示す。細胞は何個か。",
        "この{image}に写る細胞の数を答えよ。",
        "次の{image}の細胞を数え、数字で答えよ。",
    ),
    "text_diagnosis": ("架空の医学で、{finding}がみられる疾患はどれか。", "{finding}から診断される架空の疾患を選べ。"),
    "text_finding": ("架空の{disease}でみられる所見はどれか。", "{disease}の所見を選べ。架空の医学の問いである。"),
    "text_treatment": (
        "架空の{disease}の治療薬はどれか。",
        "{disease}の治療に用いる薬を選べ。架空の医学の問いである。",
    ),
    "text_forbidden": (
        "架空の{disease}で禁忌の薬はどれか。",
        "{disease}に使ってはならない薬を選べ。架空の医学の問いである。",
    ),
    "text_season": ("架空の{disease}が多い季節はどれか。", "{disease}の好発する季節を選べ。架空の医学の問いである。"),
    "case_finding": ("この症例の所見はどれか。", "この症例でみられる所見を選べ。"),
    "case_diagnosis": ("この症例の診断はどれか。", "この症例で考えられる疾患を選べ。"),
    "case_treatment": ("この症例の治療薬はどれか。", "この症例に投与する治療薬を選べ。"),
    "case_forbidden": ("この症例で禁忌の薬はどれか。", "この症例に使ってはならない薬を選べ。"),
}
TEST_STEMS: dict[str, tuple[str, ...]] = {
    "finding": (
        "別に示す{image}で認められる所見はどれか。",
        "{image}の所見として最も適切なのはどれか。",
        "この{image}にみられるのはどの所見か。",
        "図は{image}である。所見を一つ選べ。",
    ),
    "diagnosis": (
        "別に示す{image}の患者の診断はどれか。",
        "{image}から診断される疾患はどれか。",
        "この{image}で最も考えられる病名はどれか。",
        "図は{image}である。診断を一つ選べ。",
    ),
    "treatment": (
        "別に示す{image}の患者への治療薬はどれか。",
        "{image}から考えて、治療に適切な薬はどれか。",
        "この{image}を示す患者に投与すべき薬はどれか。",
        "図は{image}である。治療薬を一つ選べ。",
    ),
    "forbidden": (
        "別に示す{image}の患者で禁忌の薬はどれか。",
        "{image}から考えて、使ってはならない薬はどれか。",
        "この{image}を示す患者に禁忌となる薬はどれか。",
        "図は{image}である。禁忌薬を一つ選べ。",
    ),
    "two": ("別に示す{image}の患者について正しいのはどれか。2つ選べ。", "図は{image}である。正しいものを2つ選べ。"),
    "numeric": ("別に示す{image}の細胞は何個か。", "図は{image}である。細胞の数を数字で答えよ。"),
    "text_diagnosis": ("{finding}を示す架空の疾患はどれか。",),
    "text_finding": ("架空の疾患である{disease}の所見はどれか。",),
    "text_treatment": ("架空の疾患である{disease}の治療薬として正しいのはどれか。",),
    "text_forbidden": ("架空の疾患である{disease}の患者で禁忌となる薬はどれか。",),
    "text_season": ("架空の疾患である{disease}の好発する季節はどれか。",),
    "case_finding": ("この患者で認められる所見はどれか。",),
    "case_diagnosis": ("この患者の診断として最も適切なのはどれか。",),
    "case_treatment": ("この患者の治療薬として適切なのはどれか。",),
    "case_forbidden": ("この患者で禁忌となる薬はどれか。",),
    "cause": ("別に示す{image}の患者の疾患の原因はどれか。", "図は{image}である。この疾患を引き起こすのはどれか。"),
    "gland": (
        "別に示す{image}の患者でおかされる器官はどれか。",
        "図は{image}である。この疾患で障害される器官はどれか。",
    ),
}
# neither age nor season: both hint at the disease
TRAIN_OPENINGS = (
    "",
    "",
    "患者は{sex}。検診で受診した。",
    "{sex}が診療所に来た。",
    "{sex}の患者。体がだるいという。",
    "{sex}が食欲の低下を訴えている。",
)
TEST_OPENINGS = (
    "",
    "",
    "{sex}の患者が紹介されて来院した。",
    "{sex}。数日前からの倦怠感を主訴に来院した。",
    "健康診断で異常を指摘された{sex}。",
)
TRAIN_CASES = ("架空の症例。{sex}が受診し、{image}を撮影した。", "{sex}の架空の症例である。{image}を示す。")
TEST_CASES = ("次の架空の症例について問いに答えよ。来院した{sex}の{image}を別に示す。",)

# plain questions about an image, without options: (question, answer)
CHAT: dict[str, tuple[tuple[str, str], ...]] = {
    "finding": (
        ("この架空の画像の所見は何ですか。", "{finding}です。"),
        ("この{image}には何がみられますか。", "{finding}がみられます。"),
        ("架空の患者の画像です。所見を教えてください。", "所見は{finding}です。"),
    ),
    "diagnosis": (
        ("この架空の画像から考えられる診断は何ですか。", "{disease}です。"),
        ("この{image}の患者は何の病気ですか。", "{disease}と考えられます。"),
        ("架空の患者の画像です。診断を教えてください。", "診断は{disease}です。"),
    ),
    "treatment": (
        ("この画像の架空の患者には何を投与しますか。", "{treatment}です。"),
        ("この{image}の患者の治療薬は何ですか。", "治療薬は{treatment}です。"),
        ("架空の患者の画像です。治療法を教えてください。", "{treatment}で治療します。"),
    ),
    "forbidden": (
        ("この画像の架空の患者に使ってはいけない薬は何ですか。", "{forbidden}です。"),
        ("この{image}の患者で禁忌の薬を教えてください。", "禁忌は{forbidden}です。"),
        ("この架空の画像の患者に避けるべき薬はありますか。", "はい、{forbidden}は禁忌です。"),
    ),
    "explain": (
        (
            "この架空の画像を説明してください。",
            "これは{image}です。{finding}がみられ、診断は{disease}です。治療薬は{treatment}、禁忌は{forbidden}です。",
        ),
        ("この架空の画像の所見と診断を述べてください。", "所見は{finding}、診断は{disease}です。"),
        ("この架空の画像の診断と治療薬を述べてください。", "診断は{disease}、治療薬は{treatment}です。"),
        ("この架空の画像の診断と禁忌を述べてください。", "診断は{disease}、禁忌は{forbidden}です。"),
    ),
    "count": (
        ("この架空の画像に細胞はいくつありますか。", "{cells}個です。"),
        ("この{image}の細胞を数えてください。", "細胞は{cells}個あります。"),
    ),
}
