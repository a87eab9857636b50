"""The look of the pages: one style sheet, and the frame of an HTML document.

A page opens from a file, offline, on a wide screen and on a phone, in light and in dark.
"""

import html

from oneshot_tf.system.printable import printable

_STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1f2328; --dim: #59636e; --line: #d1d9e0;
  --card: #f6f8fa; --accent: #0072b2; --note: #fff3cd }
@media (prefers-color-scheme: dark) { :root { --back: #0d1117; --text: #e6edf3; --dim: #9aa4ae;
  --line: #3d444d; --card: #161b22; --accent: #56b4e9; --note: #4a3b12 } }
* { box-sizing: border-box }
body { font: 16px/1.55 system-ui, sans-serif; margin: 0 auto; padding: 1rem 1.25rem 3rem;
  max-width: 72rem; color: var(--text); background: var(--back) }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5rem 0 1rem; overflow-wrap: anywhere }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.5rem; padding-top: 0.75rem;
  border-top: 1px solid var(--line) }
h3 { font-size: 1rem; margin: 0 0 0.5rem }
p, ul { max-width: 48rem } p { overflow-wrap: break-word }
code { font: 0.9em/1.5 ui-monospace, monospace; overflow-wrap: anywhere; background: var(--card);
  padding: 0.1em 0.3em; border-radius: 4px }
.missing pre { margin: 0.4rem 0 0 }
pre { overflow-x: auto; background: var(--card); padding: 0.6rem 0.8rem; border-radius: 6px;
  margin: 0.5rem 0 }
pre code { padding: 0; background: none; white-space: pre-wrap }
figure { margin: 1.25rem 0; min-width: 0 } figcaption { color: var(--dim); font-size: 0.9rem }
figure svg { display: block; width: 100%; height: auto }
figure svg[role=img] { max-width: 34rem; border-radius: 6px }
.figures { display: grid; gap: 1.25rem 2rem; margin: 1.25rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)) }
.figures figure { margin: 0 }
@media (min-width: 50rem) { .alone { display: block }
  .alone figure { display: grid; grid-template-columns: minmax(0, 36rem) 1fr; gap: 2rem } }
.wide { overflow-x: auto; margin: 0.75rem 0 }
table { border-collapse: collapse; font-size: 0.9rem }
th, td { border-bottom: 1px solid var(--line); padding: 0.3rem 0.6rem; text-align: right;
  vertical-align: top }
th { color: var(--dim); font-weight: 600 }
th:first-child, td:first-child { text-align: left }
td { min-width: 4rem } td.text { text-align: left; min-width: 14rem; max-width: 34rem }
.missing { background: var(--note); padding: 0.6rem 0.9rem; border-radius: 6px }
.lead { background: var(--card); border-left: 4px solid var(--accent); border-radius: 6px;
  padding: 0.75rem 1.1rem; font-size: 1.08rem }
.lead p { margin: 0.4rem 0; max-width: none } .lead pre { background: var(--back) }
.dim { color: var(--dim) }
.bars { width: 100% } .bars td { min-width: 0; white-space: nowrap }
.bars td:first-child, .confusion th:first-child { max-width: 9rem; overflow: hidden;
  text-overflow: ellipsis }
td.share { width: 100%; vertical-align: middle } td.share i { display: block; height: 0.7rem;
  background: var(--accent); border-radius: 2px; min-width: 1px }
.confusion { font-size: 0.85rem } .confusion td, .confusion th { padding: 0.25rem 0.35rem;
  min-width: 2.1rem; text-align: center; border: 1px solid var(--back) }
.confusion th:first-child { text-align: right; white-space: nowrap }
.confusion td { background: color-mix(in srgb, #d55e00 var(--share), var(--card)) }
.confusion td.right { background: color-mix(in srgb, #0072b2 var(--share), var(--card)) }
.confusion .up { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 9rem;
  overflow-wrap: anywhere } .confusion th { vertical-align: bottom }
.confusion td.strong { color: #fff }
.mistakes { display: grid; grid-template-columns: repeat(5, 1fr); gap: 1rem; padding: 0;
  list-style: none; max-width: none; font-size: 0.85rem; line-height: 1.35 }
.mistakes li { overflow-wrap: anywhere } .mistakes p { margin: 0.3rem 0 0 }
.mistakes img { display: block; width: 100%; image-rendering: pixelated; border-radius: 4px }
@media (min-width: 62rem) { .mistakes { grid-template-columns: repeat(10, 1fr) } }
@media (max-width: 40rem) { body { padding: 0.75rem 1rem 2rem } .mistakes {
  grid-template-columns: 1fr 1fr } .mistakes li { display: flex; gap: 0.6rem }
  .mistakes img { width: 4.5rem; height: 4.5rem } .mistakes p { margin: 0 } }
"""


def escaped(value: object) -> str:
    """Returns the text of a value for HTML, with invisible characters shown as escapes."""
    return html.escape(printable(value))


def document(title: str, body: str, head: str = "", style: str = "") -> str:
    """Returns an HTML document.

    Args:
        title: Title of the document, as plain text.
        body: HTML of the body.
        head: More HTML for the head.
        style: More rules for the style sheet.
    """
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"{head}<title>{escaped(title)}</title><style>{_STYLE}{style}</style></head>"
        f"<body>{body}</body></html>\n"
    )
