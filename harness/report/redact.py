"""Secrets stay off the page: by a variable's name, by the shape of a text, by their very value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Redact = Callable[[str], str]
REDACTED = "[redacted]"

_NAME = re.compile(
    r"token|secret|passw|pwd|passphrase|key|credential|auth|cookie|private|signature|dsn|bearer", re.I
)
# Inside a text "key=k1" is the everyday line of a key-value store, so only the compounds count there.
_ASSIGNED = re.compile(
    r"""(?ix) ( (?: token | secret | passw(?:or)?d | passphrase | pwd | credentials?
              | api[_-]?key | access[_-]?key | private[_-]?key | authorization )
        [\w.-]{0,40} ["']? (?: \s* [=:] \s* | \s+ (?=["']) ) )
        ( "[^"]*" | '[^']*' | (?:bearer|basic)\s+\S+ | [^\s,;&"']+ )"""
)
_SCHEME = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")
# Everything between :// and the @ before the host; a password may itself hold "/" or "@".
_USERINFO = re.compile(
    r"""(\b[a-z][a-z0-9+.-]*://)(?:[^\s/?#"'<>]*|[^\s/:@"'<>]*:(?!\d{1,5}[/?#])[^\s"'<>]*)@""", re.I
)


def redactor(environment: Mapping[str, str]) -> Redact:
    """A function that blanks secrets in any text of a run with this `environment`.

    It knows three signs: ``user:password@`` of a URL, an assignment to a telling name
    (``--db-password=x``), and the value of any variable with a telling name, wherever it turns up.

    >>> redactor({"API_TOKEN": "hunter2hunter2"})("GET http://me:pw@host/?q=hunter2hunter2")
    'GET http://[redacted]@host/?q=[redacted]'
    """
    values = sorted(
        {v for k, v in environment.items() if secret_name(k) and len(v) >= 8}, key=len, reverse=True
    )
    known = re.compile("|".join(map(re.escape, values))) if values else None

    def redact(text: str) -> str:
        if known:
            text = known.sub(REDACTED, text)
        if "://" in text:
            text = _USERINFO.sub(rf"\g<1>{REDACTED}@", text)
        return _SCHEME.sub(rf"\g<1> {REDACTED}", _ASSIGNED.sub(rf"\g<1>{REDACTED}", text))

    return redact


def secret_name(name: str) -> bool:
    """Whether a variable of this name is never shown (rather one too many than one too few)."""
    return bool(_NAME.search(name))


def redacted(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` as it may be shown: names kept, secrets blanked."""
    redact = redactor(environment)
    return {redact(k): REDACTED if secret_name(k) else redact(v) for k, v in environment.items()}
