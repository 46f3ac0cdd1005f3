"""Lines that belong to a web page and not to its text: menus, sharing buttons, cookie notices, copyright footers.

Two kinds of evidence: a line made of navigation phrases alone, and a phrase only site machinery uses. Both look at
short lines only, and a sentence that merely mentions a login or a menu (患者がメニューを見ながら…) stays.
"""

# ruff: noqa: E501  (a pattern is read best on one line)
import re

MAX_LENGTH = 160  # longer lines are prose

_NAVIGATION = re.compile(
    """(?ix)
    (トップ|top|home|ホーム)\\s*(ページ|page)?(\\s*[へに](戻る|もどる)?)? | (サイト|ヘッダー|グローバル)?(メニュー|menu)([をの]?(開く|閉じる|開閉))?
    | 本文へ(スキップ|移動|ジャンプ)? | (コンテンツ|ナビゲーション|メニュー)(へ|に|を)?(スキップ|移動|ジャンプ)
    | ログ(イン|アウト|オン|オフ)(する|はこちら|/?ログアウト)? | log\\s?(in|out) | sign\\s?(in|up|out) | サイン(イン|アップ|アウト)
    | (新規|無料)?(会員|ユーザー|アカウント|メルマガ|メールマガジン|読者)?(の)?(新規|無料)?登録(する|はこちら|・?解除)?
    | マイページ | my\\s?page | カート(を見る|に入れる|の中身)? | (お)?買い物(かご|カート)(に入れる|を見る)? | (お)?気に入り(に(追加|登録)(する)?|一覧)?
    | (お)?問い?合わ?せ(フォーム|先|はこちら)? | contact(\\s?us)? | about(\\s?us)? | サイトマップ | site\\s?map | (サイト内)?検索(する|結果|フォーム)? | search
    | (当サイト|このサイト|サイト|運営者|当社|会社|企業)(について|概要|情報|案内) | 運営(会社|者|者情報) | よくある(ご)?質問 | faq | ヘルプ | help
    | プライバシー\\s*ポリシー | privacy(\\s?policy)? | 個人情報(保護方針|の(取り?扱い|保護))(について)? | (ご)?利用(規約|ガイド|案内|条件) | terms(\\s?of\\s?(use|service))?
    | 特定商取引法(に(基づく|関する)(表[記示]|表示))? | 免責事項 | 採用情報 | 求人情報 | アクセス(マップ|方法)? | お知らせ(一覧)? | ニュース(一覧)? | news
    | カテゴリ[ー]?(一覧|別)? | categor(y|ies) | タグ(一覧|クラウド)? | tags? | アーカイブ | archives? | 月別(アーカイブ)? | バックナンバー
    | (関連|人気|最新|新着|おすすめ|お勧め|注目|よく読まれている|あわせて読みたい)の?(記事|ページ|リンク|情報|コンテンツ|エントリー?|商品|動画|ランキング)?(ランキング|一覧|はこちら)?
    | (アクセス)?ランキング | pr | 広告 | ad(s|vertisement)? | sponsored(\\s?links?)? | スポンサー(ド|ー)?\\s*リンク
    | [«<＜‹←\\s]*(次|前|先頭|最初|最後)の?(記事|ページ|件|\\d+件)?(へ|を見る|に(進む|戻る))?[»>＞›→\\s]* | next(\\s?page)? | prev(ious)?(\\s?page)? | back
    | (続き|つづき|全文|詳細|詳しく|もっと|さらに|すべて|全て|一覧|動画|画像)[をは]?(読む|見る|表示(する)?|こちら|チェック) | read\\s?more | more | view\\s?all
    | 続きを読む.* | (詳し[くい]|くわしく|詳細)は(こちら|コチラ)(から)?[。！!]? | (一覧|トップ|元のページ|最初|上)[へに](戻る|もどる) | 戻る | 閉じる | 開く
    | (この)?(ページ)?の?(先頭|トップ|上部|上|top)[へに](戻る|もどる|移動)? | page\\s?top | back\\s?to\\s?top
    | コメント(を(書く|残す|投稿(する)?|見る|送信)|する|一覧|欄|なし)? | (コメント|返信|トラックバック|ブックマーク|閲覧数?|いいね！?)\\s*[(（:：]?\\s*\\d+\\s*(件|回)?[)）]? | \\d+\\s*件の(コメント|レビュー|返信)
    | 返信(する)? | trackbacks? | comments? | いいね[！!]?(する)? | シェア(する|ボタン)? | 共有(する)? | ツイート(する)? | ポスト(する)? | フォロー(する|中)? | share | tweet | follow(\\s?us)? | like
    | (この)?(記事|ページ|投稿|エントリー?)を?(シェア|共有|ツイート|印刷|保存|評価|通報|ブックマーク|お気に入りに追加)(する|しよう)?[！!]?
    | (facebook|twitter|x|line|instagram|youtube|pinterest|pocket|feedly|rss|note|hatena|はてな|はてなブックマーク|はてブ|フェイスブック|ツイッター|インスタグラム|メール)(で(シェア|共有|送る|フォロー)(する)?|に(投稿|保存))?
    | 印刷(する|用(ページ|画面))? | 文字サイズ | 背景色 | (文字サイズ)?[大中小] | 標準 | 拡大 | 縮小 | 日本語 | english | 中文 | 한국어 | language
    | メールアドレス | パスワード(を(お)?忘れた?(の)?(方|場合)?(はこちら)?)? | 送信(する)? | キャンセル | 購読(する)? | 公式サイト | 資料請求 | 無料体験 | お申し?込み?(はこちら)?
    """
)
# Alone on a line these may be a heading, a finding or an entry of a form; between other phrases they are a menu.
_AMBIGUOUS = re.compile(
    """(?ix) [大中小x] | line | note | rss | pr | ads? | more | back | help | news | tags? | search | language | english | like | top | home
    | 標準 | 拡大 | 縮小 | 日本語 | 中文 | 한국어 | コメント(欄|なし)? | comments? | アクセス(方法)? | 関連 | タグ | カテゴリー? | ニュース | ホーム
    | 検索(結果)? | 広告 | キャンセル | 送信 | 開く | 閉じる | 戻る | 返信 | 共有 | 登録 | [前次最初後先頭]+ | 最新 | 人気 | 印刷 | 免責事項 | お知らせ | トップ
    """
)
_SEPARATORS = re.compile(
    "\\s*[|｜/／・>＞»›≫＋+•∙■□▶►▸▼▲◀◁△▽●○◆◇★☆※→←［］\\[\\]【】<＜«‹、,，:：]+\\s*|\\s{2,}|\u3000+|\\t"
)

_MACHINERY = tuple(
    (words, re.compile(pattern, re.IGNORECASE))
    for words, pattern in (
        (("ookie", "OOKIE", "クッキー"), "(cookie|クッキー)s?\\s*(ポリシー|policy|設定|.{0,40}(同意|許可する|受け入れ|拒否|承諾))"),
        (("ookie", "OOKIE", "クッキー"), "(当|本|この|弊社の?)\\s*(web|ウェブ)?\\s*(サイト|ページ|サービス|ブログ).{0,40}(cookie|クッキー)|(we|this site|website)\\s.{0,16}cookies?"),
        (("JavaScript", "Javascript", "javascript"), "javascript.{0,20}(有効|オン|on)に(して|する必要|設定|なって)|(当|本|この).{0,10}サイト.{0,12}javascript"),
        (("ブラウザ",), "(お使い|ご利用|ご使用)の.{0,12}ブラウザ|推奨(環境|ブラウザ)|(最新|対応)(の|した)ブラウザ"),
        (("opyright", "OPYRIGHT", "©", "(c)", "(C)", "（C）", "ⓒ", "コピーライト"), "(copyright|コピーライト)\\s*([(（]c[)）]|[©ⓒ:：]|\\d{4}|all\\b|by\\b)|[©ⓒ]\\s*\\S|[(（]c[)）]\\s*(\\d{4}|\\S.{0,40}rights)"),
        (("ights", "IGHTS"), "all\\s+rights?\\s+reserved"),
        (("無断",), "無断.{0,4}(転載|複製|転用|使用|引用|コピー|利用).{0,24}(禁|固く|ご遠慮|お断り)|(転載|複製).{0,10}無断"),
        (("著作権", "権利"), "(著作権|権利).{0,24}(に帰属|(留|保)有|留保)(し|さ|$)|(記事|写真|画像|コンテンツ).{0,20}著作権は"),
        (("転載",), "(転載|複製).{0,12}(禁止|禁じ|お断り|ご遠慮)"),
        (("続き", "全文"), "(続き|全文)(を|は).{0,10}(読む|こちら|会員|ログイン|お読み|ご覧)"),
        (("ログイン", "サインイン"), "(ログイン|サインイン)(が必要|はこちら|してください|して下さい|すると.{0,12}(読|利用|表示|投稿|でき)|して.{0,12}(読む|見る|コメント|投稿|利用|続け|ご覧))"),
        (("登録",), "(会員|アカウント|メルマガ|メールマガジン|ニュースレター|チャンネル|無料|読者|お気に入り)(の|を|に|へ)?(ご)?(新規|無料|会員)?登録(は|を|・|で|して|が|する).{0,20}(こちら|ください|下さい|お願い|無料|完了|必要|特典|!|！)"),
        (("クリック", "タップ", "今すぐ"), "(こちら|コチラ|ここ|下記|バナー)を?(から)?、?(今すぐ)?(クリック|タップ)|(画像|写真)を?(クリック|タップ)(する|で|して|すると).{0,8}(拡大|表示)|^(クリック|タップ)(して|で|すると).{0,12}(ください|下さい|拡大|詳細|表示)|今すぐ(クリック|購入|登録|ダウンロード|申|チェック|無料)"),
        (("こちら", "コチラ"), "^[^。]{0,40}は(こちら|コチラ)(から|をご覧ください|まで|へ)?[。！!>＞»→▶]*$"),
        (("シェア", "共有", "ツイート", "ブックマーク", "拡散", "いいね"), "(記事|ページ|投稿|動画|商品)を.{0,8}(シェア|共有|ツイート|ブックマーク|拡散|いいね)|(sns|友達|みんな|twitter|facebook|line)(で|に|と).{0,6}(シェア|共有|ツイート|拡散)"),
        (("フォロー", "チャンネル"), "(公式|sns|twitter|ツイッター|インスタ|facebook|アカウント|ぜひ|チャンネル).{0,20}(フォロー|チャンネル登録|登録お願い)|フォロー(お願い|してね|してください)"),
        (("メルマガ", "メールマガジン", "ニュースレター", "ewsletter"), "(メルマガ|メールマガジン|ニュースレター|newsletter).{0,30}(登録|購読|配信|解除|subscribe|お届け|受け取)"),
        (("規約", "プライバシー", "個人情報"), "(利用規約|プライバシーポリシー|個人情報の?取り?扱い).{0,30}(同意|ご確認|お読み|を?ご覧|適用|(に|へ)ついては)"),
        (("送料", "ポイント", "クーポン", "セール", "円OFF", "%OFF", "税込"), "送料無料|(ポイント|クーポン).{0,12}(進呈|プレゼント|獲得|配布|還元|もらえる)|(期間限定|在庫限り).{0,16}(セール|割引|特価|off)|最大\\d+(%|％|円)\\s*off|\\d+円\\s*[(（]税込[)）]"),
        (("コメント",), "コメント(を|の)(残す|投稿(する|欄|フォーム)|書き込)|コメントは(受け付け|まだ|承認)|(この(記事|投稿)(へ|に)の|メールアドレスが公開).{0,20}"),
        (("公開される", "必須項目", "入力してください"), "メールアドレスが公開される|必須項目|(正しく|半角で|もう一度)入力してください"),
        (("カテゴリ", "タグ", "投稿者", "投稿日", "公開日", "更新日", "配信日", "掲載日"), "^(カテゴリー?|タグ|投稿者|投稿日時?|公開日時?|(最終)?更新日時?|配信日時?|掲載日)\\s*[:：|｜].{0,40}$"),
        (("読み込み", "Loading", "loading"), "^(now\\s)?loading\\.*…*$|読み込み中|読み込んでいます"),
        (("ページ", "Page", "page"), "^\\D{0,6}(page|ページ)\\s*\\d+\\s*(/|／|of|中)\\s*\\d+|^\\d+\\s*[/／]\\s*\\d+\\s*(ページ|page)|ページが見つかりません|ページの(先頭|トップ|上)(へ|に)"),
        (("スポンサー", "広告", "アフィリエイト", "プロモーション"), "(この|当)?(サイト|記事|ページ|ブログ).{0,10}(広告|アフィリエイト|プロモーション)|広告(を|の)(非表示|掲載|表示)|スポンサー(ド|ー)?リンク"),
        (("アプリ",), "(公式|無料|今すぐ|専用|便利な).{0,8}アプリ(を|で|なら).{0,12}(ダウンロード|インストール|開く|入手|お得)|アプリで(開く|見る|読む)[！!]?$"),
        (("サイトは", "サイトで", "サイトに"), "(当|本|この)サイト(は|では|に).{0,40}(掲載|リンク|アクセス解析|運営|責任|免責|転載|情報)"),
        (("404", "403", "500", "502", "503"), "^(error\\s*)?(404|403|500|502|503)\\s*(not found|forbidden|internal server error|bad gateway|service unavailable)"),
        (("Powered", "powered", "Theme", "Designed"), "^(powered|designed|theme|template)( design(ed)?)? by\\b"),
        (("Skip", "skip", "Sign", "sign", "Log", "log"), "^skip to (main )?content|^(sign|log) ?in\\s*[|/]"),
        (("rademark",), "^all (other )?trademarks? (are|is|belong)"),
        (("ookmark", "ブックマーク"), "はてなブックマーク(に追加|\\s*-\\s*\\d+ users?)"),
        (("アーカイブ", "トラックバック", "ナビゲーション"), "^(カテゴリー?|月|年|日)別アーカイブ|^(最新|新着)(の)?(記事|コメント|トラックバック)(\\s+(最新|新着)|$)|^投稿ナビゲーション"),
        (("見つかりません",), "(該当する|お探しの|指定された)(記事|ページ|商品|データ|ファイル)は(見つかりませんでした|存在しません|ありません)"),
        (("限定",), "^(この(記事|ページ)は)?(有料)?会員限定(記事)?(です)?。?$"),
        (("この商品", "ショップ", "配送", "カート"), "^この(商品|ショップ)を?(買った人|もっと見る|見た人)|^配送(方法|料)\\s*[:：].{0,60}(支払|送料)|^ショッピングカート"),
        (("広告",), "^この広告は"),
        (("ランキング", "カウンター", "人目"), "^アクセスカウンター|あなたは\\s*\\d+\\s*(人目|番目)の"),
        (("フォロワー", "フォロバ", "followme", "相互"), "フォロワー募集|フォロバ\\d+|#followme|相互フォロー.{0,4}(100|募集|大歓迎)"),
        (("定休日", "営業時間"), "^営業時間.{0,30}定休日.{0,30}(tel|電話|fax)"),
        (("残り",), "^残り[\\d,]+文字"),
        (("Printing", "Image", "image"), "^(now printing|no image)$"),
        (("PR", "ＰＲ"), "^(【PR】|PR\\s*[:：])"),
        ((">>",), "^(>>\\d+\\s*){3,}"),
        (("スレッド", "最新50"), "(全部|前100|次100).{0,20}最新50"),
        (("ID:",), "\\d{4}/\\d\\d/\\d\\d\\(.\\)\\s*\\d\\d:\\d\\d(:\\d\\d)?(\\.\\d+)?\\s*ID:"),
        (("http",), "^([^\\s。]{0,12}\\s*)?https?://[!-~]+$"),
    )
)  # fmt: skip


_HINT = re.compile("|".join(sorted({re.escape(word) for words, _ in _MACHINERY for word in words})))


def is_boilerplate(line: str) -> bool:
    """Whether a line is page machinery: navigation phrases alone, or a phrase only a site says."""
    if len(line) > MAX_LENGTH:
        return False
    if _is_navigation(line):
        return True
    hints = set(_HINT.findall(line))  # most lines hold none, and the patterns are slow
    return bool(hints) and any(not hints.isdisjoint(words) and pattern.search(line) for words, pattern in _MACHINERY)


def _is_navigation(line: str) -> bool:
    """All pieces between separators are navigation phrases, or at least two and most of them are."""
    if len(line) > 100 or "。" in line[:-1]:
        return False
    if _NAVIGATION.fullmatch(line):
        return not _AMBIGUOUS.fullmatch(line)
    pieces = [piece for piece in _SEPARATORS.split(line) if piece]
    if pieces == [line]:
        return False
    if len(pieces) >= 3 and re.match("(?i)(home|ホーム|top|トップ)", pieces[0]) and re.search("[>＞»›]", line):
        return True  # a breadcrumb trail
    known = [piece for piece in pieces if _NAVIGATION.fullmatch(piece)]
    if all(_AMBIGUOUS.fullmatch(piece) for piece in known):
        return False
    return len(known) == len(pieces) or (len(known) >= 2 and len(known) * 10 >= len(pieces) * 6)
