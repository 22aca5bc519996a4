"""What a report is made of, before it is a page: sections of paragraphs, tables, figures and pictures.

A number never stands in a text by itself: it is a :class:`Number`, which knows where among the facts it comes from.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """A number that is shown.

    Attributes:
        path: Where it stands among the facts, a JSON pointer (RFC 6901).
        value: As computed.
        text: As shown.
    """

    path: str
    value: float
    text: str


Inline = str | Number
Text = tuple[Inline, ...]
"""Words and numbers in the order they are read."""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; ``kind`` is ``"plain"``, or ``"warning"`` for what must not be missed."""

    text: Text
    kind: str = "plain"


@dataclass(frozen=True)
class Items:
    """A list; with ``title`` under a heading of its own."""

    texts: Sequence[Text]
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that can be sorted and saved as CSV.

    Attributes:
        name: Unique on the page; names the file.
        caption: What it shows.
        header: Title of each column; the first column names the rows.
        rows: As many cells each as the header has.
        notes: Below the table.
        is_folded: Shown on demand.
    """

    name: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Text]]
    notes: Sequence[str] = ()
    is_folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing.

    Attributes:
        name: Unique on the page; names the file.
        title: One line.
        description: What is to be seen, for those who cannot see it, and how to read it.
        svg: One ``<svg>`` element whose ids are unique on the page.
    """

    name: str
    title: str
    description: str
    svg: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image as JPEG."""

    name: str
    caption: str
    jpeg: bytes


Block = Paragraph | Items | Table | Figure | Picture


@dataclass(frozen=True, kw_only=True)
class Section:
    """A chapter of the page; ``name`` is unique and an address (``#name``)."""

    name: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, kw_only=True)
class Document:
    """Everything that a page shows.

    Attributes:
        kind: ``"run"`` or ``"study"``.
        title: Of the page.
        lead: One line below it.
        sections: In order.
        sources: Name of each file, or of a part of its rows, to the sha256 (hex) of what the page was made from.
        tools: Versions that decide how the page is drawn.
        options: What the reader of the folder asked for, such as ``{"images": "no"}``.
    """

    kind: str
    title: str
    lead: str
    sections: Sequence[Section]
    sources: dict[str, str]
    tools: dict[str, str]
    options: dict[str, str]


def text(*parts: Inline | Text) -> Text:
    """Join words, numbers and texts.

    >>> text("a ", (Number("/n", 2, "2"), " b"))
    ('a ', Number(path='/n', value=2, text='2'), ' b')
    """
    flat: list[Inline] = []
    for part in parts:
        flat.extend(part if isinstance(part, tuple) else (part,))
    return tuple(flat)
