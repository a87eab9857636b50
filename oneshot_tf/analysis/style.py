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
pre { overflow-x: auto; background: var(--card); padding: 0.6rem 0.8rem; border-radius: 6px;
  margin: 0.5rem 0 }
pre code { overflow-wrap: normal; padding: 0; background: none }
figure { margin: 1.25rem 0; min-width: 0 } figcaption { color: var(--dim); font-size: 0.9rem }
figure svg { display: block; width: 100%; height: auto }
figure svg[role=img] { max-width: 34rem; border-radius: 6px }
.figures { display: grid; gap: 1.25rem 2rem; margin: 1.25rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)) }
.figures figure { margin: 0 }
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
