/** The one stylesheet: system fonts, light and dark, from a telephone up. What will run is what the eye lands on. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --ground: #f6f7f8; --paper: #ffffff; --ink: #16191d; --soft: #525b66; --line: #d5dae0; --code: #f0f3f6;
  --act: #0b5cad; --on-act: #ffffff; --good: #1a6b3c; --bad: #a8201a; --warn: #7a4d00; --mark: #fff0c2; --focus: #0b5cad;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #101316; --paper: #181c20; --ink: #e8ebee; --soft: #a7b0ba; --line: #343b43; --code: #0d1013;
    --act: #74b3f2; --on-act: #0a1420; --good: #6fcf97; --bad: #ff8a80; --warn: #f0c674; --mark: #4a3a00; --focus: #9ccbf9;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
a { color: var(--act); }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; border-radius: 3px; }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--paper); padding: .5rem 1rem; z-index: 1; }
header.top { border-bottom: 1px solid var(--line); background: var(--paper); }
header.top > div, main, footer { max-width: 50rem; margin: 0 auto; padding: 0 1.25rem; }
header.top > div { display: flex; flex-wrap: wrap; align-items: center; gap: .25rem 1.25rem; min-height: 3.5rem; }
header.top .brand { font-weight: 650; letter-spacing: .01em; margin-right: auto; color: var(--ink); text-decoration: none; }
header.top nav { display: flex; flex-wrap: wrap; align-items: center; gap: .25rem 1.1rem; font-size: .95rem; }
header.top nav a[aria-current] { color: var(--ink); text-decoration: none; font-weight: 600; }
header.top form { margin: 0; }
main { padding-top: 1.75rem; padding-bottom: 3rem; }
footer { color: var(--soft); font-size: .85rem; padding-bottom: 2rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.3; margin: 0 0 .35rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 2rem 0 .6rem; }
p { margin: .5rem 0; }
.lead { color: var(--soft); margin-top: 0; overflow-wrap: anywhere; }
.lead strong { color: var(--ink); }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 1.25rem; margin: 1.25rem 0; }
.narrow { max-width: 27rem; margin-left: auto; margin-right: auto; }
.state { display: inline-block; font-size: .8rem; font-weight: 650; letter-spacing: .03em; border: 1.5px solid currentColor; border-radius: 999px; padding: .05rem .65rem; color: var(--soft); }
.state.pending { color: var(--warn); }
.state.approved, .state.used { color: var(--good); }
.state.denied, .state.revoked, .state.unknown { color: var(--bad); }
.runs { border: 2px solid var(--ink); border-radius: 8px; background: var(--paper); margin: 1.25rem 0; overflow: hidden; }
.runs h2 { margin: 0; padding: .55rem 1rem; font-size: .9rem; font-weight: 650; border-bottom: 1px solid var(--line); }
.runs h2 + pre { margin: 0; }
.runs pre + h2 { border-top: 1px solid var(--line); }
pre, code { font-family: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { background: var(--code); padding: 1rem; margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; tab-size: 2; font-size: 1rem; line-height: 1.5; overflow: hidden; }
.odd { background: var(--mark); border-radius: 3px; padding: 0 .15em; font-weight: 650; }
dl { display: grid; grid-template-columns: 11rem 1fr; gap: .45rem 1rem; margin: 1rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
.plain { list-style: none; padding: 0; margin: 0; }
.plain > li { border-top: 1px solid var(--line); padding: .7rem 0; overflow-wrap: anywhere; }
.plain > li:first-child { border-top: 0; }
.small { font-size: .9rem; color: var(--soft); }
.alert { border: 2px solid var(--bad); border-radius: 8px; padding: .7rem 1rem; margin: 0 0 1.25rem; background: var(--paper); }
.alert strong { color: var(--bad); }
.hint { border-left: 4px solid var(--line); padding: .1rem 0 .1rem .9rem; color: var(--soft); }
label { display: block; font-weight: 600; margin: .9rem 0 .3rem; }
label.choice { display: flex; gap: .6rem; align-items: flex-start; font-weight: 400; }
label.choice input { margin-top: .3rem; width: 1.1rem; height: 1.1rem; flex: none; }
input:not([type=checkbox]), select, textarea { font: inherit; width: 100%; padding: .55rem .7rem; border: 1px solid var(--soft); border-radius: 6px; background: var(--paper); color: var(--ink); }
input.code { max-width: 11rem; font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 1.2rem; letter-spacing: .15em; }
button { font: inherit; font-weight: 600; padding: .6rem 1.2rem; border-radius: 6px; border: 1.5px solid var(--act); background: var(--act); color: var(--on-act); cursor: pointer; min-height: 2.75rem; }
button.quiet { background: transparent; color: var(--act); }
button.no { background: transparent; color: var(--bad); border-color: var(--bad); }
button.text { background: none; border: 0; color: var(--act); padding: 0; min-height: 0; font-weight: 400; text-decoration: underline; }
button:disabled { opacity: .55; cursor: default; }
.buttons { display: flex; flex-wrap: wrap; gap: .7rem; margin-top: 1.1rem; }
.row { display: flex; gap: 1rem; justify-content: space-between; align-items: center; }
.card > h2:first-child { margin-top: 0; }
.card > details { border-top: 1px solid var(--line); margin-top: 1.25rem; padding-top: .75rem; }
details summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
.qr { display: block; width: 13rem; max-width: 100%; margin: 1rem auto; background: #fff; padding: .75rem; border-radius: 6px; }
[hidden] { display: none !important; }
@media (max-width: 36rem) {
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .7rem; }
  main { padding-top: 1.25rem; }
  .buttons button { flex: 1 1 100%; }
  h1 { font-size: 1.3rem; }
}
`
