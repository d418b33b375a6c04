"""How the page looks: on a screen wide or narrow, light or dark, and on paper."""

STYLE = """\
:root {
  color-scheme: light dark;
  --paper: #fff; --ink: #1b1f24; --soft: #575e67; --rule: #d9dde2; --faint: #f5f6f8;
  --accent: #00598c; --good: #00664a; --bad: #a33f00;
  --serif: Charter, "Bitstream Charter", "Sitka Text", Cambria, "Noto Serif", Georgia, serif;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181c; --ink: #e4e7eb; --soft: #a3abb5; --rule: #353b43; --faint: #1e2228;
    --accent: #7cc4f0; --good: #5fd0ac; --bad: #f3a06d;
  }
  figure img { filter: brightness(0.92); }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; scroll-padding-top: 1rem; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.6 var(--serif); overflow-wrap: break-word;
}
.skip { position: absolute; left: -99rem; padding: 0.5rem 1rem; background: var(--paper); }
.skip:focus { left: 0.5rem; top: 0.5rem; z-index: 2; }
a { color: var(--accent); text-underline-offset: 0.15em; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }

.top, .frame, footer { max-width: 76rem; margin: 0 auto; padding: 0 1.25rem; }
.top { padding-top: 2.75rem; padding-bottom: 1.25rem; }
.kicker, .label, nav, table, dl, summary, .note, button, footer, h3 { font-family: var(--sans); }
.kicker {
  margin: 0 0 0.6rem; color: var(--accent); font-size: 0.8rem; font-weight: 600;
  letter-spacing: 0.08em; text-transform: uppercase;
}
h1 {
  margin: 0; max-width: 24em; font-size: clamp(1.75rem, 1.2rem + 2.4vw, 2.75rem);
  line-height: 1.15; font-weight: 600; letter-spacing: -0.012em; text-wrap: balance;
}
.lead { max-width: 40em; margin: 0.9rem 0 0; color: var(--soft); font-size: 1.15rem; }
h2 { margin: 0 0 0.9rem; font-size: 1.55rem; line-height: 1.25; font-weight: 600; }
h3 { margin: 1.5rem 0 0.5rem; font-size: 0.95rem; font-weight: 600; }
section { padding: 2.25rem 0 0.75rem; }
section + section { border-top: 1px solid var(--rule); margin-top: 1.25rem; }
p { margin: 0 0 1rem; max-width: 42em; }
.note { max-width: 58em; color: var(--soft); font-size: 0.84rem; line-height: 1.5; }
.warning { padding: 0.6rem 1rem; border-left: 3px solid var(--bad); background: var(--faint); }
.label { margin: 0 0 0.35rem; color: var(--soft); font-size: 0.84rem; }
.sentences { max-width: 44em; margin: 0 0 1.5rem; padding: 0.1rem 0 0.1rem 1.1rem;
  border-left: 3px solid var(--accent); list-style: none; }
.sentences li + li { margin-top: 0.55rem; }

nav { font-size: 0.9rem; border: solid var(--rule); border-width: 1px 0; padding: 0.6rem 0; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.15rem 1.1rem; margin: 0; padding: 0; }
nav li { list-style: none; }
nav a { display: inline-block; padding: 0.2rem 0; color: var(--soft); text-decoration: none; }
nav a:hover { color: var(--accent); text-decoration: underline; }
main { min-width: 0; padding-top: 1.5rem; }
@media (min-width: 68rem) {
  .frame { display: grid; grid-template-columns: 10.5rem minmax(0, 1fr); column-gap: 3rem; }
  nav { align-self: start; position: sticky; top: 1.5rem; border-width: 1px 0 0; }
  nav ul { display: block; }
}

dl { margin: 0 0 1.25rem; }
dd { margin: 0; }
.facts { font-size: 0.92rem; line-height: 1.5; border-top: 1px solid var(--rule); }
.facts div { display: grid; grid-template-columns: 11rem minmax(0, 1fr); gap: 0 1.25rem;
  padding: 0.45rem 0; border-bottom: 1px solid var(--rule); }
.facts dt { color: var(--soft); }
.facts dd { white-space: pre-line; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr));
  padding: 0 0 0 1px; }
.numbers div { display: flex; flex-direction: column-reverse; justify-content: flex-end;
  padding: 0.85rem 1rem; border: 1px solid var(--rule); margin: 0 0 -1px -1px; }
.numbers dt { color: var(--soft); font-size: 0.8rem; line-height: 1.35; }
.numbers dd { font-size: 1.45rem; line-height: 1.3; font-weight: 600;
  font-variant-numeric: tabular-nums; }
@media (max-width: 34rem) {
  .facts div { grid-template-columns: minmax(0, 1fr); }
  .numbers { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .numbers dd { font-size: 1.2rem; }
}

.scroll { overflow-x: auto; max-width: 100%; }
.table .scroll {
  background: linear-gradient(to left, var(--paper), var(--paper)) right / 1.5rem 100% local,
    linear-gradient(to left, var(--rule), transparent) right / 0.75rem 100%;
  background-repeat: no-repeat;
}
.tall .scroll { max-height: 36rem; overflow-y: auto; }
.tall thead th { position: sticky; top: 0; z-index: 1; background: var(--paper); }
.table { margin: 0 0 1.75rem; }
.table .note { margin-top: 0.6rem; }
table { border-collapse: separate; border-spacing: 0; min-width: 100%;
  font-size: 0.875rem; line-height: 1.4;
  font-variant-numeric: tabular-nums; border-bottom: 1.5px solid var(--ink); }
caption { padding: 0 0 0.5rem; text-align: left; font-weight: 600; }
th, td { padding: 0.38rem 0.7rem; text-align: left; vertical-align: baseline; font-weight: 400;
  white-space: nowrap; }
th:first-child { padding-left: 0.1rem; }
th:last-child, td:last-child { padding-right: 0.9rem; }
thead th { padding-top: 0; padding-bottom: 0; border: solid var(--ink); border-width: 1.5px 0 1px;
  vertical-align: bottom; white-space: normal; }
tbody tr + tr > * { border-top: 1px solid var(--rule); }
tbody th { position: sticky; left: 0; background: var(--paper); }
tbody tr:hover > * { background: var(--faint); }
tbody .wide { position: static; min-width: 14rem; max-width: 30rem; white-space: normal;
  overflow-wrap: break-word; }
.number { text-align: right; }
.good { color: var(--good); font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; }
.quiet { color: var(--soft); }
.sort { all: unset; position: relative; display: inline-block; padding: 0.45rem 0; cursor: pointer;
  font-weight: 600; }
.sort:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
.sort::after { content: "\\2195"; position: absolute; padding-left: 0.15em; color: var(--soft);
  font-weight: 400; opacity: 0.45; }
.sort:hover::after { opacity: 1; }
[aria-sort=ascending] .sort::after { content: "\\2191"; opacity: 1; color: var(--accent); }
[aria-sort=descending] .sort::after { content: "\\2193"; opacity: 1; color: var(--accent); }

figure { margin: 0 0 1.75rem; }
figure .scroll { width: fit-content; background: #fff; border: 1px solid var(--rule);
  border-radius: 3px; }
figure img { display: block; max-width: 100%; height: auto; min-width: 36rem; }
figure img:is([width="600"], [width="640"]) { min-width: 26rem; }
pre { max-width: 100%; margin: 0 0 1.25rem; padding: 0.8rem 1rem; overflow-x: auto;
  background: var(--faint); border: 1px solid var(--rule); border-radius: 3px;
  font: 0.82rem/1.5 var(--mono); }
details { margin: 0 0 1.25rem; }
summary { cursor: pointer; padding: 0.3rem 0; color: var(--accent); font-size: 0.92rem; }
details pre { max-height: 34rem; overflow-y: auto; }

[role=tablist] { display: flex; flex-wrap: wrap; gap: 0 0.25rem; margin-bottom: 1rem;
  border-bottom: 1px solid var(--rule); }
[role=tablist][hidden] { display: none; }
[role=tab] { all: unset; max-width: 100%; margin-bottom: -1px; padding: 0.5rem 0.8rem;
  cursor: pointer; overflow-wrap: anywhere; color: var(--soft); font: 0.9rem/1.4 var(--sans);
  border-bottom: 2px solid transparent; }
[role=tab]:hover { color: var(--ink); }
[role=tab][aria-selected=true] { color: var(--ink); font-weight: 600;
  border-bottom-color: var(--accent); }
@media (max-width: 34rem) {
  [role=tablist] { flex-wrap: nowrap; overflow: auto hidden; }
  [role=tab] { flex: none; max-width: 80%; }
}
[role=tab]:focus-visible { outline: 2px solid var(--accent); outline-offset: -2px; }
.live .panel > h3 { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap; }

footer { margin-top: 2.5rem; padding-top: 1rem; padding-bottom: 3rem; color: var(--soft);
  font-size: 0.84rem; border-top: 1px solid var(--rule); }

@media print {
  :root { --paper: #fff; --ink: #000; --soft: #444; --rule: #bbb; --faint: #fff; --accent: #000;
    --good: #000; --bad: #000; color-scheme: light; }
  @page { margin: 16mm 14mm; }
  html { font-size: 10.5pt; }
  nav, .skip, [role=tablist] { display: none !important; }
  .frame { display: block; }
  .top, .frame, footer { max-width: none; padding-left: 0; padding-right: 0; }
  .top { padding-top: 0; }
  .panel[hidden] { display: block; }
  .live .panel > h3 { position: static; width: auto; height: auto; clip-path: none; }
  .scroll, .tall .scroll, pre, details pre { overflow: visible; max-height: none; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.68rem; }
  details pre { columns: 2; }
  .table .scroll { background: none; }
  table { font-size: 0.72rem; }
  th, td { padding: 0.2rem 0.4rem; white-space: normal; }
  tbody th, .tall thead th { position: static; }
  .sort::after { content: none; }
  details::details-content { content-visibility: visible; block-size: auto; }
  figure, .numbers, tr { break-inside: avoid; }
  figure img { min-width: 0; max-height: 235mm; width: auto; filter: none; }
  h2, h3, caption { break-after: avoid; }
  section + section { margin-top: 0.5rem; }
}
"""
