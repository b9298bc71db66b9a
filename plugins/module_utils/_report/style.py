# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the page looks: light and dark, on paper, on a phone and on a desk. Nothing is fetched from anywhere."""

from __future__ import annotations

from typing import Dict, Mapping, Tuple

#: The colours by their names, for each of the two schemes.
COLOURS: Mapping[str, Mapping[str, str]] = {
    "light": {
        "page": "#f7f7f5",
        "card": "#ffffff",
        "ink": "#1c2126",
        "soft": "#59626d",
        "line": "#e2e4e7",
        "link": "#1f4fa3",
        "native": "#12603b",
        "native-back": "#e2f2e9",
        "emulated": "#2b479b",
        "emulated-back": "#e7ecfb",
        "idle": "#59626d",
        "idle-back": "#f1f2f4",
        "drained": "#764900",
        "drained-back": "#fcefd3",
        "stopped": "#5a4779",
        "stopped-back": "#f0ebf7",
        "unreachable": "#9c1c1c",
        "unreachable-back": "#fce7e5",
        "ran": "#3a68c8",
        "cached": "#8495b5",
        "failed": "#cc3d33",
        "track": "#e9ebee",
    },
    "dark": {
        "page": "#121517",
        "card": "#1a1e21",
        "ink": "#e6e8ea",
        "soft": "#a2abb5",
        "line": "#2c3238",
        "link": "#9dbcff",
        "native": "#84d7a7",
        "native-back": "#15301f",
        "emulated": "#a9c0ff",
        "emulated-back": "#1d294a",
        "idle": "#a2abb5",
        "idle-back": "#242a2f",
        "drained": "#f0c470",
        "drained-back": "#39290c",
        "stopped": "#cbb9ea",
        "stopped-back": "#2d2440",
        "unreachable": "#ff9f96",
        "unreachable-back": "#421a18",
        "ran": "#7fa4f4",
        "cached": "#62759b",
        "failed": "#ff776c",
        "track": "#272d33",
    },
}
#: What stands upon what, with the contrast that WCAG 2.2 AA demands: 4.5 for text, 3 for what is drawn.
PAIRS: Tuple[Tuple[str, str, float], ...] = (
    *((ink, back, 4.5) for ink in ("ink", "soft", "link") for back in ("page", "card")),
    *((state, "card", 4.5) for state in ("native", "emulated", "drained", "stopped", "unreachable")),
    *((state, f"{state}-back", 4.5) for state in ("native", "emulated", "idle", "drained", "stopped", "unreachable")),
    *((drawn, back, 3.0) for drawn in ("ran", "cached", "failed") for back in ("card",)),
)


def _variables(colours: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in colours.items())


_STATES: Dict[str, str] = {
    "native": "native",
    "succeeded": "native",
    "running": "native",
    "emulated": "emulated",
    "pinned": "drained",
    "idle": "idle",
    "unknown": "idle",
    "canceled": "idle",
    "drained": "drained",
    "stopped": "stopped",
    "missing": "stopped",
    "paused": "stopped",
    "unreachable": "unreachable",
    "failed": "unreachable",
}

CSS = (
    f":root{{color-scheme:light dark;{_variables(COLOURS['light'])}}}"
    f"@media (prefers-color-scheme:dark){{:root{{{_variables(COLOURS['dark'])}}}}}"
    f"@media print{{:root{{color-scheme:light;{_variables(COLOURS['light'])}--page:#ffffff;}}}}"
    + """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-padding-top:1rem}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
font-variant-numeric:tabular-nums}
main,header,footer{max-width:1200px;margin:0 auto;padding:0 28px}
header{padding-top:36px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px;font-weight:650;letter-spacing:-.01em}
h2{font-size:17px;line-height:1.3;margin:0;font-weight:650}
p{margin:0}
a{color:var(--link)}
code,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.87em}
.soft{color:var(--soft)}
.sub{display:block;font-weight:400;color:var(--soft);font-size:13px;line-height:1.4;overflow-wrap:anywhere}
.problem{color:var(--unreachable)}
.wrap{overflow-wrap:anywhere}
.hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
nav{margin-top:18px;display:flex;flex-wrap:wrap;gap:4px 20px;font-size:14px}
nav a{text-decoration:none;padding:3px 0}
nav a:hover{text-decoration:underline}
.tiles{display:grid;grid-template-columns:repeat(6,1fr);gap:12px;margin:20px 0 0;padding:0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px;min-width:0}
.tile dt{color:var(--soft);font-size:13px}
.tile dd{margin:0;font-size:22px;line-height:1.35;font-weight:600;letter-spacing:-.01em;white-space:nowrap}
.tile dd span{font-size:14px;font-weight:400;color:var(--soft);letter-spacing:0}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;margin:16px 0;overflow:hidden}
section>.head{padding:16px 20px 12px;display:flex;flex-wrap:wrap;gap:2px 16px;align-items:baseline;
justify-content:space-between}
section>.head p{color:var(--soft);font-size:13px}
.body{padding:0 20px 18px}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;vertical-align:top;padding:9px 20px 9px 0;border-top:1px solid var(--line)}
th:first-child,td:first-child{padding-left:20px}
thead th{border-top:0;font-weight:500;font-size:13px;color:var(--soft);padding-top:2px;padding-bottom:6px;
white-space:nowrap}
tbody th{font-weight:600}
td.nowrap{white-space:nowrap}
th.name{min-width:220px;max-width:340px;overflow-wrap:anywhere}
.chip{display:inline-block;border-radius:999px;padding:1px 9px;font-size:13px;line-height:1.5;font-weight:500;
white-space:nowrap}
.list{list-style:none;margin:0;padding:0}
.alarms li{display:grid;grid-template-columns:112px minmax(110px,280px) 1fr;gap:2px 14px;padding:8px 0;
border-top:1px solid var(--line);font-size:14px}
.alarms li:first-child{border-top:0;padding-top:0}
.alarms b{font-weight:600;overflow-wrap:anywhere}
.scroll{overflow-x:auto}
.matrix th,.matrix td{padding-right:14px;white-space:nowrap}
.matrix+.legend,.scroll+.legend{border-top:1px solid var(--line)}
.matrix td{padding-top:7px;padding-bottom:7px}
.matrix tbody th{position:sticky;left:0;background:var(--card);padding-right:18px}
.legend{display:flex;flex-wrap:wrap;gap:6px 10px;padding:12px 20px 14px;font-size:13px;color:var(--soft)}
svg{display:block;width:100%;overflow:visible}
.ran{fill:var(--ran)}.cached{fill:var(--cached)}.failed{fill:var(--failed)}.track{fill:var(--track)}
.strip rect+rect{stroke:var(--card);stroke-width:1px}
.key{display:inline-flex;align-items:center;gap:6px}
.key svg{width:12px}
.lane{display:grid;grid-template-columns:190px 1fr;gap:0 16px;align-items:center;min-height:26px;font-size:14px}
.lane>:first-child{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.axis{font-size:12px;color:var(--soft)}
.axis .marks{display:flex;justify-content:space-between}
.steps{margin:4px 0 14px 16px;padding-left:14px;border-left:2px solid var(--line);font-size:13px}
summary{cursor:pointer;list-style:none}
summary::-webkit-details-marker{display:none}
summary>:first-child::before,div.lane:not(.axis)>:first-child::before{content:"▸";display:inline-block;width:16px;
color:var(--soft)}
div.lane:not(.axis)>:first-child::before{content:""}
details[open]>summary>:first-child::before{content:"▾"}
details[open]>summary>:first-child{font-weight:600}
.step{display:grid;grid-template-columns:minmax(0,1fr) 34% 72px;gap:0 14px;align-items:center;padding:1px 0;
font-size:13px}
.step>:first-child{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.step>:last-child{text-align:right;color:var(--soft);white-space:nowrap}
.bar{width:112px;margin-top:6px}
.images td,.images th{padding-top:7px;padding-bottom:7px}
.images thead th:first-child{width:50%}
.digests{display:flex;flex-wrap:wrap;gap:2px 18px}
.digests span{white-space:nowrap}
footer{padding-top:6px;padding-bottom:40px;color:var(--soft);font-size:13px;overflow-wrap:anywhere}
@media screen and (max-width:900px){.tiles{grid-template-columns:repeat(3,1fr)}}
@media screen and (max-width:760px){
main,header,footer{padding-left:14px;padding-right:14px}
header{padding-top:22px}
h1{font-size:23px}
.tiles{grid-template-columns:repeat(2,1fr);gap:8px}
.tile{padding:9px 12px}
.tile dd{font-size:20px}
nav{gap:0 18px;margin-top:14px}
nav a{padding:6px 0}
section>.head{padding:14px 14px 10px}
.body{padding:0 14px 14px}
.alarms li{grid-template-columns:auto 1fr;gap:2px 10px}
.alarms li>span:last-child{grid-column:1/-1}
.legend{padding-left:14px;padding-right:14px}
.matrix,.matrix tbody{display:block}
.matrix thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.matrix tr{display:flex;flex-wrap:wrap;gap:2px 14px;border-top:1px solid var(--line);padding:8px 14px}
.matrix tbody th{position:static;flex:0 0 100%;padding:0;border:0;white-space:normal;overflow-wrap:anywhere}
.matrix td{display:flex;gap:6px;align-items:center;padding:0;border:0}
.matrix td:first-child{padding-left:0}
.matrix td.blank{display:none}
.matrix td::before{content:attr(data-label);color:var(--soft);font-size:13px}
table.cards,table.cards tbody{display:block}
table.cards thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
table.cards tr{display:block;border-top:1px solid var(--line);padding:10px 14px}
table.cards th,table.cards td{display:grid;grid-template-columns:88px minmax(0,1fr);gap:10px;border:0;padding:2px 0;
text-align:left;white-space:normal}
table.cards th:first-child,table.cards td:first-child{padding-left:0}
table.cards tbody th{display:block;font-size:15px;overflow-wrap:anywhere;min-width:0;max-width:none}
table.cards td::before{content:attr(data-label);color:var(--soft);font-size:13px;line-height:1.65}
table.cards td.blank{display:none}
.lane{grid-template-columns:1fr;padding:4px 0}
.lane.axis>:first-child{display:none}
.step{grid-template-columns:minmax(0,1fr) 60px}
.steps{margin-left:0;padding-left:10px}
.step>:first-child{white-space:normal;overflow-wrap:anywhere}
.axis .marks>:nth-child(even){display:none}
.step>svg{grid-column:1/-1;grid-row:2;margin:2px 0 4px}
.bar{width:100%;max-width:180px}
}
@media print{
@page{margin:12mm}
body,.tile dt,table,thead th,.sub,.alarms li,.legend,.lane,.axis,.chip,.tile dd span{font-size:8pt}
h1{font-size:15pt}
h2{font-size:11pt}
.tile{padding:6px 8px}
.tile dd{font-size:11pt}
th,td{padding:4px 10px 4px 0}
th.name{min-width:0}
.lane{min-height:18px}
.bar{width:70px;margin-top:2px}
main,header,footer{max-width:none;padding-left:0;padding-right:0}
nav{display:none}
section,.tile{border-color:#bbbbbb}
section{overflow:visible}
tr,.alarms li,.lane,.step{break-inside:avoid}
.head{break-after:avoid}
thead{display:table-header-group}
summary>:first-child::before{content:"" !important}
.scroll{overflow:visible}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
}
""".strip().replace("\n", "")
    + "".join(f".{name}-chip{{color:var(--{state});background:var(--{state}-back)}}" for name, state in _STATES.items())
)
