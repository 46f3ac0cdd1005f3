"""The report page's style sheet: system fonts, light and dark, no image, nothing to fetch."""

STYLE = """
:root{--ink:#1d2433;--soft:#667085;--line:#e3e6ec;--ground:#f6f7f9;--card:#fff;--accent:#3457d5;--accent2:#d5672f;
--accent3:#16855b;--accent4:#8a4fc4;--good:#137a4b;--bad:#c0362c;--faint:#c3cdf2;
--p0:#8fa5ea;--p1:#2f9e6e;--p2:#d5672f;--p3:#c9ced8}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9f0;--soft:#98a2b6;--line:#2c3444;--ground:#12161f;--card:#1a202c;
--accent:#8aa2ff;--accent2:#f0935f;--accent3:#4cc38f;--accent4:#b98cf0;--good:#4cc38f;--bad:#ff7b70;--faint:#34406b;
--p0:#5a72c8;--p1:#2f9e6e;--p2:#c86a38;--p3:#465063}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);line-height:1.6;
font-family:system-ui,-apple-system,"Segoe UI",
"Hiragino Sans","Yu Gothic UI",Meiryo,"Noto Sans CJK JP","Noto Sans JP",sans-serif}
main{max-width:1060px;margin:0 auto;padding:36px 20px 60px}
h1{margin:0;font-size:2rem;letter-spacing:.01em}
h2{margin:0 0 10px;font-size:1.25rem}
h3{margin:22px 0 8px;font-size:1rem}
h1 span,h2 span{color:var(--soft);font-weight:400;font-size:.72em;margin-left:.4em}
.en{color:var(--soft);font-size:.86em;font-weight:400}
small{color:var(--soft);font-size:.8em;font-weight:400}
.kicker{margin:0;color:var(--accent);font-weight:700;letter-spacing:.12em}
.run{margin:2px 0 20px;color:var(--soft);font-family:ui-monospace,Menlo,Consolas,monospace}
section{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:22px 24px;margin:18px 0}
.note{margin:0 0 12px;color:var(--soft);font-size:.88rem}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:0 0 14px}
.tile{flex:1 1 170px;background:var(--card);border:1px solid var(--line);border-radius:14px;padding:14px 18px}
.tile b{display:block;font-size:1.6rem;line-height:1.3;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}
table.wide{width:100%}
.scroll+.scroll{margin-top:16px}
th,td{padding:6px 14px 6px 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600;font-size:.84rem;vertical-align:bottom}th .en{display:block}
table.audit td:first-child{white-space:nowrap}table.audit td:first-child .en{display:block}
table.audit{font-size:.86rem}h3+svg+.scroll{margin-top:18px}
td+td{white-space:nowrap}
tr:last-child td{border-bottom:0}
table.figures td:nth-child(2){font-weight:600}
.removed td:last-child{white-space:normal}
q{display:block;
quotes:none;color:var(--soft);font-size:.86rem;overflow-wrap:anywhere;border-left:3px solid var(--line);
padding-left:8px;margin:2px 0}
.good{color:var(--good);font-weight:600}.bad{color:var(--bad);font-weight:600}.na{color:var(--soft)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(215px,1fr));gap:14px}
.cards figure{margin:0;border:1px solid var(--line);border-radius:10px;overflow:hidden}
.cards img{display:block;width:100%;aspect-ratio:1;object-fit:contain;image-rendering:pixelated;
background:var(--ground)}
.cards figcaption{padding:8px 12px 10px}
.cards p{margin:2px 0;overflow-wrap:anywhere;font-size:.9rem}
.cards .q{color:var(--soft)}
.cards .a{font-weight:600;max-height:6.4em;overflow:auto}
.cards .g{color:var(--soft);font-size:.8rem}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:16px}
.charts figure{margin:0}.charts figcaption{font-weight:600}
.sheets{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:16px}
.sheet{border:1px solid var(--line);border-radius:10px;padding:12px 16px}
.sheet h4{display:flex;gap:8px;align-items:baseline;margin:0 0 6px}.sheet h4 b{margin-left:auto}
.sheet table{width:100%}
details{margin-top:8px}summary{cursor:pointer;color:var(--soft);font-size:.88rem}
.legend{display:flex;flex-wrap:wrap;gap:6px 20px;margin:0;font-size:.88rem}
.legend i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px}
i.p0{background:var(--p0)}i.p1{background:var(--p1)}i.p2{background:var(--p2)}i.p3{background:var(--p3)}
.meter{display:block;width:100%;min-width:140px;height:10px;margin-top:7px;background:var(--ground);border-radius:5px}
.meter i{display:block;height:10px;border-radius:5px;background:var(--accent)}
svg{display:block;width:100%;max-width:720px;height:auto;overflow:visible}
svg text{fill:var(--ink);font-size:12px;font-family:inherit}
svg .tick{fill:var(--soft);font-size:11px}svg .onbar{fill:#fff;font-weight:600}
svg .onbar.t3{fill:var(--ink)}
svg .grid{stroke:var(--line)}
svg polyline{fill:none;stroke-linejoin:round}
svg .raw{stroke-width:1;opacity:.25}svg .line{stroke-width:2}
.c0{stroke:var(--accent)}.c1{stroke:var(--accent2)}.c2{stroke:var(--accent3)}.c3{stroke:var(--accent4)}
svg .bar{fill:var(--faint)}svg .whisker{stroke:var(--accent);stroke-width:2}
svg .constant{stroke:var(--accent2);stroke-width:2}svg .value{font-weight:600}
svg .p0{fill:var(--p0)}svg .p1{fill:var(--p1)}svg .p2{fill:var(--p2)}svg .p3{fill:var(--p3)}
footer{color:var(--soft);font-size:.84rem}footer span{display:block}
@media (max-width:640px){main{padding:20px 10px}section{padding:16px 14px}td:first-child{min-width:11em}}
@media print{body{background:#fff}section{break-inside:avoid}}
"""
