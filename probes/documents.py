# SPDX-License-Identifier: LGPL-2.1-or-later
"""Gives text its meaning: a captured string comes in; a string or an XML document, without its secrets, goes out."""

from __future__ import annotations

from log.events import CutText, Value, Xml
from log.quote import decode_bytes
from probes import values
from probes.copying import Limits
from probes.redact import redact_text

# of a document, at most or as much as the user wants of a string: what it describes is rarely at its beginning
CAPTURED = 16384


def text_value(copied: values.Copied, limits: Limits) -> Value:
    """A string that may be a document, a command or a list of options: secrets in it are found by their shape."""
    if copied.text is None:
        return values.string_value(copied)
    if copied.text[:1] == b"<":
        return xml_value(copied, limits)
    value = values.string_value(copied, redact=False)
    if limits.redact and isinstance(value, str):
        return redact_text(value)
    if limits.redact and isinstance(value, CutText):
        return value._replace(text=redact_text(value.text))
    return value


def xml_value(copied: values.Copied, limits: Limits) -> Value:
    """A document, redacted before it is cut: a secret at the cut would not look like one."""
    if copied.text is None:
        return values.string_value(copied)
    complete = copied.length is not None and copied.length <= len(copied.text)
    text = decode_bytes(copied.text if complete else values.whole_characters(copied.text))
    if limits.redact:
        text = redact_text(text)
    data = text.encode(errors="surrogatepass")
    if complete and len(data) <= limits.string:
        return Xml(text, text)
    shown = values.whole_characters(data[: limits.string]).decode(errors="surrogatepass")
    return Xml(CutText(shown, copied.length), text)
