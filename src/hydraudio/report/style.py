"""Style sheet and script of the report pages; both are written into each page."""

CSS = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--text:#1b2130;--muted:#5d6678;--rule:#e1e5eb;
--accent:#2f5fd0;--accent-soft:#2f5fd033;--good:#1a7f4b;--bad:#b3382c;--mid:#6b5aa6;--grid:#e8ebf0;
--k0:#2f5fd0;--k1:#d9822b;--k2:#1f9e77;--k3:#c2477f;--k4:#6a51c7;--k5:#3aa3c9;--k6:#8a7a12;--k7:#7a828f}
@media(prefers-color-scheme:dark){:root{--bg:#12151c;--card:#1a1f29;--text:#e4e8f0;--muted:#98a2b5;--rule:#2c3340;
--accent:#86a8ff;--accent-soft:#86a8ff40;--good:#5fcf94;--bad:#ff8a7a;--mid:#b7a6f5;--grid:#272e3a;
--k0:#86a8ff;--k1:#f0a657;--k2:#55cba4;--k3:#ee86b3;--k4:#b09cff;--k5:#74cdeb;--k6:#cdbc4e;--k7:#a5aebd}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,"DejaVu Sans",sans-serif}
main,header>div{max-width:1120px;margin:0 auto;padding:0 20px}
header{background:var(--card);border-bottom:1px solid var(--rule);padding:26px 0 18px}
h1{font-size:1.55rem;line-height:1.25;margin:0;letter-spacing:-.01em;overflow-wrap:anywhere}
.subtitle{color:var(--muted);margin:.25rem 0 0}
h2{font-size:1.15rem;margin:2.4rem 0 .7rem;letter-spacing:-.005em;scroll-margin-top:56px}
h3{font-size:.95rem;margin:0 0 .6rem;font-weight:600}
p{margin:.4rem 0 .8rem;max-width:78ch}
.muted,.note{color:var(--muted)}
.note{font-size:.86rem}
code{font:.88em ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
nav{position:sticky;top:0;z-index:2;background:var(--bg);border-bottom:1px solid var(--rule)}
nav div{max-width:1120px;margin:0 auto;padding:8px 20px;display:flex;gap:4px;overflow-x:auto;scrollbar-width:thin}
nav a{color:var(--muted);text-decoration:none;font-size:.88rem;padding:4px 10px;border-radius:6px;white-space:nowrap}
nav a:hover,nav a:focus-visible{color:var(--text);background:var(--accent-soft)}
.card{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:18px;margin:0 0 16px}
.card.warning{border-left:4px solid var(--bad);margin-top:20px}
.kpis{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0 0}
.kpi{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:12px 16px}
.kpi b{display:block;font-size:1.5rem;line-height:1.3;font-weight:650;font-variant-numeric:tabular-nums;white-space:nowrap}
.kpi span{color:var(--muted);font-size:.82rem;display:block}
.facts{display:grid;grid-template-columns:max-content 1fr;gap:3px 18px;margin:0;font-size:.9rem}
.facts dt{color:var(--muted)}.facts dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:7px 12px;text-align:right;border-bottom:1px solid var(--rule);vertical-align:top;white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:4px;white-space:normal;overflow-wrap:break-word;
min-width:5.5em;max-width:22em;position:sticky;left:0;background:var(--card)}
thead th{color:var(--muted);font-weight:600;font-size:.82rem;vertical-align:bottom}
tbody tr:last-child td{border-bottom:0}
td small{display:block;color:var(--muted);font-size:.78rem;line-height:1.3}
tr.total td{font-weight:650}tr.total td small{font-weight:400}
tr:not(.total)+tr.total td{border-top:2px solid var(--muted)}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:16px;align-items:start;margin-bottom:16px}
.grid .card{margin:0}.grid.narrow{grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr))}
.columns{columns:420px 2;column-gap:16px}.columns .card{break-inside:avoid}
details{margin:0 0 12px}summary{cursor:pointer;font-weight:600;padding:4px 0}
.chart{display:block;width:100%;height:auto;max-width:640px;margin:0 auto}
.chart text{font-size:12px;fill:var(--muted)}.chart .axis{font-size:12.5px;fill:var(--text)}
.chart .label,.chart .value{fill:var(--text)}.chart .total text{font-weight:650}
.grid line,.chart .grid{stroke:var(--grid);stroke-width:1}
.chart .zero{stroke:var(--muted);stroke-width:1}.chart .diagonal{stroke:var(--muted);stroke-dasharray:5 4}
.chart .hint{font-size:11px}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.dots circle{fill:var(--k);fill-opacity:.62}
.bar{fill:var(--k);fill-opacity:.28}.dot{fill:var(--k)}.total{--k:var(--text)}
.c0,.s0{--k:var(--k0)}.c1,.s1{--k:var(--k1)}.c2,.s2{--k:var(--k2)}.c3,.s3{--k:var(--k3)}
.c4,.s4{--k:var(--k4)}.c5,.s5{--k:var(--k5)}.c6,.s6{--k:var(--k6)}.c7,.s7{--k:var(--k7)}
.line{stroke:var(--k)}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;justify-content:center;font-size:.82rem;color:var(--muted)}
.legend i{display:inline-block;width:9px;height:9px;border-radius:50%;background:var(--k);margin-right:5px}
.tag{display:inline-block;border-radius:5px;padding:1px 8px;font-size:.78rem;font-weight:650;color:var(--card);
background:var(--muted)}
.tag.best{background:var(--good)}.tag.worst{background:var(--bad)}.tag.typical{background:var(--mid)}
.item>h3{display:flex;flex-wrap:wrap;gap:6px 10px;align-items:baseline;margin-bottom:2px}
.item>h3 code{font-weight:400;color:var(--muted);min-width:0;flex:1 1 14ch}
.chips{font-size:.84rem;color:var(--muted);margin:0;max-width:none}.chips+.signals{margin-top:12px}
.signals{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,190px),1fr));gap:18px}
.signal h4{margin:0 0 4px;font-size:.86rem;font-weight:600}
.wave{display:block;width:100%;height:46px}.wave polygon{fill:var(--accent);stroke:var(--accent);stroke-width:.6}
.spectrogram{display:block;width:100%;height:112px;border-radius:4px;background:#0b0614;image-rendering:auto}
.scale{display:flex;justify-content:space-between;font-size:.74rem;color:var(--muted);margin:1px 0 5px}
audio{display:block;width:100%;height:36px}
.scores{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:.84rem;margin:6px 0 0;font-variant-numeric:tabular-nums}
.scores b{font-weight:650}.scores span{white-space:nowrap;color:var(--muted)}.scores b{color:var(--text)}
ul.problems{font-size:.88rem;padding-left:1.2rem}ul.problems li{margin:2px 0;overflow-wrap:anywhere}
.heat .chart{max-width:860px}.heat rect{fill:var(--accent)}.heat .share{font-weight:600;fill:var(--text)}
.heat .count{font-size:11px}.heat .strong text{fill:var(--card)}
.signals.wide{grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr))}
.prob{display:grid;grid-template-columns:6.2em 1fr 5.6em;gap:10px;align-items:center;font-size:.84rem;line-height:1.5;
font-variant-numeric:tabular-nums;color:var(--muted)}
.prob>span:last-child{text-align:right}.prob.true>span{color:var(--text);font-weight:650}
.prob>div{position:relative;height:10px;border-radius:5px;background:var(--grid)}
.prob b{position:absolute;left:0;top:0;height:10px;border-radius:5px;background:var(--k7)}.prob.true b{background:var(--good)}
.prob i{position:absolute;top:-2px;width:2px;height:14px;margin-left:-1px;background:var(--text)}
.rating{margin-top:6px}.rating>div{height:4px;margin:0 5px}.rating b{width:10px;top:-3px;margin-left:-5px;background:var(--accent)}
.rating i{top:-6px;height:16px}.probs+.rating{margin-top:14px}
footer{color:var(--muted);font-size:.82rem;margin:2.5rem 0 2rem}
@media(max-width:600px){main,header>div,nav div{padding-left:14px;padding-right:14px}.card{padding:14px}
.facts{grid-template-columns:1fr;gap:0}.facts dd{margin-bottom:6px}th,td{padding:6px 8px}}
@media print{nav,audio{display:none}.card{break-inside:avoid}}
"""

# Starting one player stops the others, so that two signals can be compared by two clicks.
SCRIPT = 'addEventListener("play",e=>document.querySelectorAll("audio").forEach(a=>{if(a!==e.target)a.pause()}),true)'
