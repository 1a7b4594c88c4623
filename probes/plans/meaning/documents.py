# SPDX-License-Identifier: LGPL-2.1-or-later
"""Gives text its meaning: a captured string and what it is (texts.py) come in; what is shown of
it goes out.
"""

from __future__ import annotations

from collections.abc import Callable

from log.quote import decode_bytes, whole_characters
from log.redact.json import redact_answer, redact_command
from log.redact.messages import redact_error
from log.redact.uri import has_uri, redact_uris
from log.redact.xml import redact_xml
from log.values import CutText, Redacted, Value, Xml
from probes.plans.meaning import texts, values
from probes.plans.meaning.captured import Copied, Limits

# of a document, at most or as much as the user wants of a string: what it describes is rarely at
# its beginning
CAPTURED = 16384
_INTERNAL_ERROR = 1  # an error's code of which nothing is known

_SHOWN: dict[str, Callable[[str], Value]] = {
    texts.NAME: redact_uris,
    texts.URI: lambda text: (
        redact_uris(text)
        if not text or has_uri(text)
        else Redacted(len(text.encode(errors="surrogatepass")))
    ),
    texts.COMMAND: redact_command,
    texts.ANSWER: redact_answer,
    texts.MESSAGE: lambda text: redact_error(_INTERNAL_ERROR, text),
    texts.MIXED: lambda text: Redacted(len(text.encode(errors="surrogatepass"))),
}


def text_value(copied: Copied, what: str, limits: Limits) -> Value:
    """A string that is `what`; of one that is hidden only its length is looked at."""
    if copied.text is None:
        return values.string_value(copied)
    if what == texts.HIDDEN and limits.redact:
        return values.secret_value(copied)
    if what == texts.XML or (what in (texts.MIXED, texts.HIDDEN) and copied.text[:1] == b"<"):
        return xml_value(copied, limits)
    value = values.string_value(
        copied, redact=limits.redact and what in (texts.NAME, texts.URI), shown=limits.string
    )
    if not limits.redact or what == texts.NAME or not isinstance(value, str | CutText):
        return value
    if isinstance(value, str):
        return _SHOWN[what](value)
    shown = _SHOWN[what](value.text)
    return CutText(shown, value.length) if isinstance(shown, str) else Redacted(value.length)


def kept(what: str, limits: Limits) -> int:
    """Bytes of a string that are captured: none of one that is hidden."""
    return 0 if what == texts.HIDDEN and limits.redact else limits.string


def xml_value(copied: Copied, limits: Limits) -> Value:
    """A document, redacted before it is cut."""
    if copied.text is None:
        return values.string_value(copied)
    complete = copied.length is not None and copied.length <= len(copied.text)
    text = decode_bytes(copied.text if complete else whole_characters(copied.text))
    if limits.redact:
        text = redact_xml(text)
    data = text.encode(errors="surrogatepass")
    if complete and len(data) <= limits.string:
        return Xml(text, text)
    shown = whole_characters(data[: limits.string]).decode(errors="surrogatepass")
    return Xml(CutText(shown, copied.length), text)
