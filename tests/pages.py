"""What tests ask of a page, whoever wrote it."""

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Outline(HTMLParser):
    """Elements of a page: whether they nest, and what the rules for pages are held against."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.addresses: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        self.elements.append((tag, own))
        if tag not in VOID:
            self.open.append(tag)
        if own.get("id"):
            self.ids.append(str(own["id"]))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.addresses += [str(own[name]) for name in ("src", "href", "xlink:href", "action", "data") if name in own]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [own for name, own in self.elements if name == tag]


def faults_of(text: str) -> list[str]:
    """Return in words which rule of a self-contained, accessible page is broken."""
    page = Outline(text)
    said = [f"elements do not nest: {tag}" for tag in page.faults] + [f"left open: {tag}" for tag in page.open]
    said += [f"id twice: {one}" for one in sorted({one for one in page.ids if page.ids.count(one) > 1})]
    said += [
        f"leads outside or nowhere: {one}"
        for one in page.addresses
        if not (one.startswith("data:image/") or (one.startswith("#") and one[1:] in page.ids))
    ]
    said += [f"asks for {one}" for one in re.findall(r"url\((?!#)[^)]*\)|@import|<link|<iframe", text)]
    said += [f"refers to no id: {one}" for one in re.findall(r"url\(#([^)]*)\)", text) if one not in page.ids]
    jumps = zip(page.headings, page.headings[1:], strict=False)
    said += [f"heading {after} follows {before}" for before, after in jumps if after > before + 1]
    said += [] if page.headings.count(1) == 1 else ["not one h1"]
    tables = len(page.of("table"))
    said += [] if len(page.of("caption")) == tables else ["a table has no caption"]
    said += ["th without scope" for own in page.of("th") if own.get("scope") not in ("col", "row")]
    said += ["picture without words" for own in page.of("img") if not own.get("alt")]
    labels = [one for own in page.of("svg") for one in (own.get("aria-labelledby"), own.get("aria-describedby"))]
    said += [f"drawing without words: {one}" for one in labels if one not in page.ids]
    policy = [own for own in page.of("meta") if own.get("http-equiv") == "Content-Security-Policy"]
    said += [] if policy and "default-src 'none'" in str(policy[0]["content"]) else ["no policy against requests"]
    return said
