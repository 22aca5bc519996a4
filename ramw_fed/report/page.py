"""A document as one page of HTML that asks nothing of the outside, and its seal.

The seal is the sha256 of the page with the seal itself blanked: it shows that the page is as it was written, to whom
knows the seal. Whoever changes the page can seal it anew; :mod:`ramw_fed.verification` therefore recomputes.
"""

import base64
import hashlib
import re
from functools import cache
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined

from ramw_fed.report.document import Block, Document

BLANK_SEAL = "0" * 64
_SEAL = re.compile(r'(<meta name="ramw-fed-seal" content=")([0-9a-f]{64})(">)')


def render(document: Document) -> str:
    """Return the sealed page: the same bytes for the same document."""
    page = (
        _environment()
        .get_template("page.html")
        .render(document=document, style=_template("style.css"), script=_template("script.js"), blank_seal=BLANK_SEAL)
    )
    return seal(page)


def seal(page: str) -> str:
    """Return a page with its seal set, whatever it was."""
    blank = _SEAL.sub(rf"\g<1>{BLANK_SEAL}\g<3>", page, count=1)
    digest = hashlib.sha256(blank.encode()).hexdigest()
    return _SEAL.sub(rf"\g<1>{digest}\g<3>", blank, count=1)


def seal_of(page: str) -> str | None:
    """Return the seal that a page bears; None where it bears none."""
    found = _SEAL.search(page)
    return found[2] if found else None


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    environment.filters["exact"] = repr
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    environment.filters["kind"] = _kind
    environment.filters["csp"] = _csp
    return environment


def _template(name: str) -> str:
    return (resources.files("ramw_fed.report") / "templates" / name).read_text(encoding="utf-8")


def _kind(block: Block) -> str:
    return type(block).__name__


def _csp(script: str) -> str:
    """Return the hash by which a page's policy admits this script and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
