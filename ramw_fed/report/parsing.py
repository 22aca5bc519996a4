"""A page read back: its sections, the numbers in them, and what it says it was made from."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ramw_fed.report.page import BLANK_SEAL, seal_of

_SECTION = re.compile(r'<section id="([^"]*)".*?</section>', re.DOTALL)
_NUMBER = re.compile(r'<data value="([^"]*)" data-path="([^"]*)">([^<]*)</data>')
_SOURCE = re.compile(r'<tr data-source="([^"]*)">.*?<code>([^<]*)</code>')
_META = re.compile(r'<meta name="ramw-fed-(kind|option-[^"]*|tool-[^"]*)" content="([^"]*)">')


@dataclass(frozen=True, kw_only=True)
class PageSection:
    """A section.

    Attributes:
        numbers: Address, value and text of each, in order, as they stand.
        words: All the rest.
    """

    numbers: tuple[tuple[str, str, str], ...]
    words: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page.

    Attributes:
        kind: ``run``, ``study``, or what stands there.
        sections: By name.
        sources: Name to hash.
        options: What it was made with.
        tools: Versions that drew it.
        frame: All that lies outside the sections, without the seal.
    """

    kind: str
    sections: Mapping[str, PageSection]
    sources: Mapping[str, str]
    options: Mapping[str, str]
    tools: Mapping[str, str]
    frame: str

    def without(self, pattern: re.Pattern[str]) -> "Page":
        """Return the page without what matches in the words of its sections."""
        return replace(
            self,
            sections={
                name: replace(section, words=pattern.sub("", section.words)) for name, section in self.sections.items()
            },
        )


def read_page(text: str) -> Page:
    """Read a page that :mod:`ramw_fed.report.page` wrote, or what was made of it."""
    meta = {html.unescape(name): html.unescape(value) for name, value in _META.findall(text)}
    return Page(
        kind=meta.get("kind", ""),
        sections={found[1]: _section(found[0]) for found in _SECTION.finditer(text)},
        sources={html.unescape(name): value for name, value in _SOURCE.findall(text)},
        options=_named(meta, "option-"),
        tools=_named(meta, "tool-"),
        frame=_SECTION.sub("", text).replace(seal_of(text) or BLANK_SEAL, BLANK_SEAL),
    )


def _section(text: str) -> PageSection:
    numbers = tuple((html.unescape(path), value, html.unescape(shown)) for value, path, shown in _NUMBER.findall(text))
    return PageSection(numbers=numbers, words=_NUMBER.sub("", text))


def _named(meta: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in meta.items() if name.startswith(prefix)}
