"""Checks of pages: they close what they open, and name nothing outside of themselves."""

import html.parser
import re


class Checked(html.parser.HTMLParser):
    """Reads a page; `tags` has its tags with their attributes, `text` its text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            assert name not in ("src", "href") or value.startswith(("data:", "#")), value
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def checked(text):
    """The text of a page that is whole."""
    Checked(text)
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # of XML, not links
    assert set(re.findall(r"https?://[^'\"<\s]*", text)) <= names
    return text
