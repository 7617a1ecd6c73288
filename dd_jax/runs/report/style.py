"""How a report looks, and the few lines that make a player of the evolution of its images."""

SCRIPT = """
for (const box of document.querySelectorAll(".evolution")) {
  const frames = [...box.querySelectorAll("figure")];
  const [play, slider, says] = ["button", "input", "output"].map((tag) => box.querySelector(tag));
  let timer = null;
  const show = () => {
    frames.forEach((frame, i) => frame.classList.toggle("shown", i === Number(slider.value)));
    says.textContent = frames[slider.value].querySelector("figcaption").textContent;
    slider.setAttribute("aria-valuetext", says.textContent);
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  };
  const next = () => {
    slider.value = Number(slider.value) + 1;
    show();
    if (Number(slider.value) === frames.length - 1) stop();
  };
  play.addEventListener("click", () => {
    if (timer !== null) return stop();
    if (Number(slider.value) === frames.length - 1) slider.value = 0;
    show();
    play.textContent = "Pause";
    timer = setInterval(next, 350);
  });
  slider.addEventListener("input", () => { stop(); show(); });
  box.classList.add("player");
  box.querySelector(".controls").hidden = false;
  show();
}
const closed = [];
addEventListener("beforeprint", () => document.querySelectorAll("details:not([open])").forEach((details) => {
  closed.push(details);
  details.open = true;
}));
addEventListener("afterprint", () => { while (closed.length) closed.pop().open = false; });
"""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f5f1; --card: #fff; --ink: #1c2228; --soft: #55606b; --line: #dfe2e5; --grid: #e6e8ea; --mark: #7d868f;
  --accent: #0067a3; --strength: 0.6;
  --series-0: #0072b2; --series-1: #c04f00; --series-2: #00805e; --series-3: #a8487e; --series-5: #8a6100;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #0e1216; --card: #171c22; --ink: #e7eaed; --soft: #a5b0ba; --line: #2b333b; --grid: #29313a;
    --mark: #8b959f; --accent: #6fbdf0; --strength: 0.8;
    --series-0: #56b4e9; --series-1: #f58b4c; --series-2: #2fc79a; --series-3: #e39ac6; --series-5: #e69f00;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
body > * { max-width: 76rem; margin-inline: auto; padding-inline: clamp(0.75rem, 3vw, 2rem); }
header { padding-block: clamp(1.25rem, 4vw, 3rem) 0.5rem; }
h1, h2, h3 { line-height: 1.2; text-wrap: balance; margin: 0; }
h1 { font-size: clamp(1.5rem, 1.1rem + 2vw, 2.4rem); letter-spacing: -0.015em; }
.kind { color: var(--soft); font-size: 0.85rem; letter-spacing: 0.03em; margin: 0 0 0.4rem; }
.lead { font-size: clamp(1.02rem, 0.95rem + 0.4vw, 1.2rem); max-width: 48rem; margin: 0.75rem 0 0; }
.remarks { color: var(--soft); max-width: 48rem; margin: 0.75rem 0 0; padding-left: 1.1rem; }
.run { border-top: 3px solid var(--accent); margin-top: 3rem; padding-top: 1.25rem; }
.run > h2 { font-size: clamp(1.3rem, 1.1rem + 1vw, 1.8rem); }
.tiles {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: 0.6rem; margin: 1.25rem 0 0;
}
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 0.6rem 0.8rem; }
.tiles dt { color: var(--soft); font-size: 0.8rem; }
.tiles dd { margin: 0; font-size: 1.15rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.tiles dd small { display: block; font-weight: 400; font-size: 0.8rem; color: var(--soft); }
.cards {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); gap: 1rem;
  margin-block: 1.25rem; grid-auto-flow: dense;
}
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: clamp(0.75rem, 2.5vw, 1.4rem);
  min-width: 0;
}
.wide { grid-column: 1 / -1; }
.tall { grid-row: span 2; }
.card > :is(h2, h3) { font-size: 1.1rem; margin-bottom: 0.6rem; }
.card p { margin: 0.4rem 0; }
.note { color: var(--soft); font-size: 0.85rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem 2rem; }
.pair > * { min-width: 0; }
.pair :is(h3, h4) { font-size: 0.95rem; font-weight: 600; margin: 0 0 0.4rem; }
.chart svg { display: block; width: 100%; max-width: 28rem; height: auto; color: var(--ink); overflow: visible; }
.chart text { font-family: inherit !important; }
.scroll { overflow-x: auto; max-width: 100%; }
:is(.scroll, .strip, button, summary, input):focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { text-align: left; padding: 0.3rem 0.9rem 0.3rem 0; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 500; white-space: nowrap; }
tbody th { font-weight: 500; }
tbody tr:last-child > * { border-bottom: 0; }
.results td { white-space: nowrap; }
.results td:last-child { white-space: normal; }
.results :is(th, td) { max-width: 22rem; }
.settings { width: 100%; table-layout: fixed; overflow-wrap: anywhere; }
.settings th { width: 42%; color: var(--soft); font-weight: 400; }
.images { table-layout: fixed; width: 100%; }
.images :is(th, td) { border: 0; padding: 1px; }
.images th { font-weight: 500; }
.images thead th { text-align: center; overflow: hidden; text-overflow: ellipsis; font-size: 0.8rem; }
.images tbody th { font-size: 0.85rem; text-align: left; vertical-align: middle; }
.images small { display: block; font-weight: 400; font-size: 0.68rem; line-height: 1.2; color: var(--soft); }
@media (min-width: 40.01rem) {
  .images { min-width: calc(3.4rem + 1.7rem * var(--columns)); }
  .images th:first-child { width: 3.6rem; }
  .images thead th:first-child { text-align: left; }
}
@media (max-width: 40rem) {
  .images { min-width: calc(1.6rem * var(--columns)); }
  .images :is(thead, tbody) { display: block; }
  .images tr { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); }
  .images tbody th { grid-column: 1 / -1; padding-top: 0.35rem; }
  .images thead th:first-child { display: none; }
  .results { font-size: 0.82rem; }
  .results thead th { white-space: normal; }
  .results :is(th, td) { padding-right: 0.55rem; }
  .results tr > :last-child { padding-right: 0; }
  .images small { display: inline; font-size: 0.75rem; margin-left: 0.5em; }
}
img { display: block; image-rendering: pixelated; }
.images img { width: 100%; height: auto; border-radius: 2px; }
figure { margin: 0; }
figure img { max-width: 100%; height: auto; }
figcaption { font-size: 0.8rem; color: var(--soft); }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(5rem, 1fr)); gap: 0.6rem 0.5rem; }
.gallery img { width: 100%; height: auto; border-radius: 4px; }
.gallery figcaption {
  line-height: 1.25; overflow: hidden; display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical;
}
.strip { display: flex; gap: 0.75rem; overflow-x: auto; max-width: 100%; }
.strip figure { flex: 0 0 min(85%, 20rem); }
.next { margin-top: 0.75rem; }
.next p { margin: 0 0 0.2rem; font-weight: 600; }
.strip img { width: 100%; min-width: calc(4rem * var(--aspect)); height: auto; border-radius: 4px; }
.player .strip { display: block; }
.player figure { display: none; max-width: 30rem; }
.wide .player figure { max-width: none; }
.player figure.shown { display: block; }
.player figcaption { display: none; }
.controls { display: flex; align-items: center; gap: 0.75rem; margin-bottom: 0.75rem; max-width: 30rem; }
.controls[hidden] { display: none; }
.controls input { flex: 1; min-width: 0; accent-color: var(--accent); }
.controls output { min-width: 8.5rem; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
button {
  font: inherit; font-size: 0.9rem; padding: 0.3rem 0; width: 4.5rem; border-radius: 8px; cursor: pointer;
  border: 1px solid var(--accent); color: var(--accent); background: transparent;
}
.confusion {
  font-size: 0.75rem; table-layout: fixed; width: 100%; min-width: calc(var(--first) + 1.35rem * var(--columns));
  max-width: calc(var(--first) + var(--cell) * var(--columns));
}
.confusion :is(th, td) {
  border: 1px solid var(--card); padding: 0.15rem 0; text-align: center; vertical-align: middle; height: 1.6rem;
}
.confusion td { background: rgb(0 114 178 / calc(var(--fill) * var(--strength))); }
.confusion th { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.confusion th:first-child { width: var(--first); }
.upright thead th + th { writing-mode: vertical-rl; height: 6rem; text-align: left; }
ul.plain { margin: 0.4rem 0; padding-left: 1.1rem; }
summary { cursor: pointer; color: var(--accent); font-size: 0.95rem; }
details > :nth-child(2) { margin-top: 0.6rem; }
details :is(h3, h4) { font-size: 0.95rem; margin: 1rem 0 0.4rem; }
code { font: 0.85em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
a { color: var(--accent); }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; padding: 0; margin: 1rem 0 0; }
footer { color: var(--soft); font-size: 0.8rem; padding-block: 1rem 2.5rem; }
@media print {
  @page { margin: 14mm; }
  :root { color-scheme: light; --page: #fff; }
  body { font-size: 10pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body > * { max-width: none; padding-inline: 0; }
  header { padding-top: 0; }
  .card, .tiles div, figure, tr { break-inside: avoid; }
  .card.long { break-inside: auto; }
  h1, h2, h3, h4 { break-after: avoid; }
  .cards { grid-template-columns: 1fr 1fr; grid-auto-flow: row; }
  .tall { grid-row: auto; }
  .tiles { grid-template-columns: repeat(3, 1fr); }
  .settings { font-size: 0.8em; }
  .settings :is(th, td) { padding-block: 0.1rem; }
  .scroll { overflow: visible; }
  .scroll table { font-size: 0.8em; min-width: 0; max-width: 100%; overflow-wrap: anywhere; }
  .scroll :is(th, td) { white-space: normal; }
  .images { max-width: 100% !important; }
  .controls { display: none; }
  .strip, .player .strip { display: grid; grid-template-columns: repeat(3, 1fr); gap: 0.4rem; }
  .strip figure, .player figure { display: block; }
  .strip .unprinted { display: none; }
  .strip img { min-width: 0; }
  .player figcaption { display: block; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
