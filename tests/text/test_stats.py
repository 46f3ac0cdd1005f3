from jvlm.text.stats import is_japanese


def test_kana_make_a_text_japanese():
    assert is_japanese("第一条　この法律は、医師の資格を定める。")
    assert is_japanese("npm install を実行する。")
    assert not is_japanese("The quick brown fox.")
    assert not is_japanese("血圧 120/80 mmHg")
    assert not is_japanese("中国語的文章没有假名")
    assert not is_japanese("")
    assert is_japanese("あ" + "x" * 19)
    assert not is_japanese("あ" + "x" * 20)
