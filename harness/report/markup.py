"""HTML from values: everything is escaped unless it was made here; no style attribute, no network."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import string
from collections.abc import Iterable, Sequence
from importlib import resources
from urllib.parse import quote

from harness.report.text import visible


class Markup(str):
    """Text that is HTML already; `el` escapes every other text."""

    __slots__ = ()


Child = object | None


def el(tag: str, *children: Child, **attributes: object) -> Markup:
    """An element; attribute names lose a trailing ``_`` and get ``-`` for ``_``; None leaves one out.

    >>> el("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    pairs = "".join(
        f' {name.strip("_").replace("_", "-")}="{html.escape(visible(str(value)))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{pairs}>{joined(children)}</{tag}>")


def joined(children: Iterable[Child]) -> Markup:
    """Children side by side: markup as it is, anything else as escaped text, None as nothing."""
    return Markup("".join(map(_text, children)))


def _text(child: Child) -> str:
    if isinstance(child, Markup):
        return child
    return "" if child is None else html.escape(visible(str(child)))


SHAPES = {  # a verdict is never colour alone: each has its own shape and its own word
    "valid": "M12 2a10 10 0 1 0 .01 0zM7 12.2l3.6 3.6L17.2 8.6",
    "invalid": "M12 1 23 12 12 23 1 12zM8.4 8.4l7.2 7.2M15.6 8.4l-7.2 7.2",
    "unknown": "M12 2 23 21.5H1zM12 9v6M12 17.6v1.2",
    "error": "M7.8 2h8.4L22 7.8v8.4L16.2 22H7.8L2 16.2V7.8zM12 6.5v7M12 16.6v1.2",
}


def mark(word: str, size: int = 16) -> Markup:
    """The shape of a verdict word."""
    look = {"class_": f"mark {word}", "viewBox": "0 0 24 24", "width": size, "height": size}
    return el("svg", el("path", d=SHAPES[word]), **look, aria_hidden="true")


def judged(word: str, text: str | None = None) -> Markup:
    """Shape, colour and word of a verdict."""
    return el("span", mark(word), " ", text or word, class_=f"word {word}")


FAMILIES = {
    "partition": "partition", "isolate": "partition",
    "pause": "pause", "kill": "kill", "restart": "kill",
    **dict.fromkeys(("cpu_limit", "memory_limit", "disk_full"), "resource"),
    **dict.fromkeys(("clock_jump", "clock_drift", "clock_strobe", "clock_scramble"), "clock"),
    **dict.fromkeys(("latency", "bandwidth", "reset_peer", "packet_loss", "packet_delay"), "link"),
    **dict.fromkeys(("packet_reorder", "packet_duplicate", "packet_corrupt", "packet_rate"), "link"),
    **dict.fromkeys(("message_drop", "message_duplicate", "message_corrupt"), "link"),
    **dict.fromkeys(("message_reorder", "message_delay"), "link"),
    **dict.fromkeys(("slicer", "limit_data", "slow_close", "timeout"), "link"),
}  # fmt: skip


def family(kind: str) -> str:
    """The look that a kind of fault shares with its likes; ``own`` for a user's fault."""
    return FAMILIES.get(kind, "own")


def chip(kind: str, what: str = "") -> Markup:
    """The kind of a fault, and what it was."""
    return el("span", el("b", kind), f" {what}" if what else None, class_=f"chip {family(kind)}")


def bar(parts: Iterable[tuple[str, float]]) -> Markup:
    """A bar of (class, amount) in SVG, since the policy allows no style attribute."""
    parts = [(name, amount) for name, amount in parts if amount]
    whole, x, rects = sum(amount for _, amount in parts) or 1, 0.0, []
    for name, amount in parts:
        rects.append(el("rect", class_=name, x=f"{x:.2f}", width=f"{100 * amount / whole:.2f}", height=10))
        x += 100 * amount / whole
    return el(
        "svg", *rects, class_="bar", viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true"
    )


def table(
    label: str, head: Sequence[str], rows: Iterable[Sequence[Child]], class_: str | None = None
) -> Markup:
    """A table that scrolls sideways by itself on a narrow screen."""
    body = (
        el("tr", *(el("td", cell, data_head=name) for name, cell in zip(head, row, strict=True)))
        for row in rows
    )
    inner = el("table", el("thead", el("tr", *(el("th", h, scope="col") for h in head))), el("tbody", *body))
    return el(
        "div", inner, class_=f"scroll {class_ or ''}".strip(), tabindex=0, role="region", aria_label=label
    )


def pairs(items: Iterable[tuple[Child, Child]]) -> Markup:
    """Names and what they stand for."""
    return el("dl", *(joined((el("dt", name), el("dd", value))) for name, value in items), class_="pairs")


def breakable(name: str) -> Markup:
    """The id of a test, which may go on in a new line where a part of it ends."""
    parts = re.split(r"(?<=[^:]::)(?=[^:])|(?<=/)|(?=\[)", name)
    return Markup("<wbr>".join(html.escape(visible(part)) for part in parts))


def link(path: str) -> str:
    """`path`, relative to the page and not yet quoted, as an address that can only be a path.

    A scheme or a host in it (``javascript:``, ``//elsewhere``) is quoted into an ordinary name.
    """
    path = path.replace("\\", "/")
    if path.startswith("/"):
        return "/" + quote(path.lstrip("/"), errors="replace")
    return quote(path if path.startswith(("./", "../")) else f"./{path}", errors="replace")


def asset(*parts: str) -> str:
    """The text of a file that lies beside this module."""
    return resources.files("harness.report").joinpath(*parts).read_text("utf-8")


def condensed(code: str) -> str:
    """Style or script without what only its reader needs: indentation, and comments after a space."""
    code = re.sub(r"(^|\s)// .*$|/\* .*? \*/", "", code, flags=re.MULTILINE)
    lines = (line.strip() for line in code.splitlines())
    return "\n".join(line for line in lines if line)


def allowed(text: str) -> str:
    """`text` as a source in a content security policy."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def document(template: str, css: str, js: str = "", **places: Child) -> str:
    """`template` (a file) filled; its policy allows this one style and this one script and nothing else."""
    css, js = condensed(css), condensed(js)
    script = (
        f"script-src {allowed(js)}; require-trusted-types-for 'script'; trusted-types 'none'; " if js else ""
    )
    policy = f"default-src 'none'; {script}style-src {allowed(css)}; base-uri 'none'; form-action 'none'"
    text = string.Template(asset(template)).substitute(
        {name: joined([child]) for name, child in places.items()}, css=css, js=js, policy=policy
    )
    return text
