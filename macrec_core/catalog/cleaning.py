"""Item text as published, made plain: no HTML, no stringified lists, single spaces.

Nothing is cut here; an encoder cuts what it cannot read.
"""

from __future__ import annotations

import ast
import html
import re
import warnings
from collections.abc import Iterator

# C0 and C1 controls, and lone surrogates, which no UTF-8 file can hold.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Only entities that end in a semicolon: `a=1&copy=2` and `&nothing` are text.
_ENTITY = re.compile(r"&(?:#[0-9]+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);")
# `&amp;amp;lt;` is escaped three times over; undone in one go.
_ESCAPED_AMPERSAND = re.compile(r"&(?:amp;)+")
_NOT_SHOWN = re.compile(r"<(script|style)\b[^<>]*>", re.IGNORECASE)
_SHOWN_AGAIN = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in ("script", "style")}
# A tag opens with a letter, so that `5 < 6 and 7 > 3`, `<>` and `<3` stay.
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<![A-Za-z][^<>]*>")

# Of a written list that Python cannot read back.
_BETWEEN_PARTS = re.compile(r"""['"], ['"]""")
_ESCAPED_SPACE = re.compile(r"\\(?:[nrt]|xa0)")
_ESCAPED_QUOTE = re.compile(r"""\\(['"\\])""")


def clean_text(value: object) -> str:
    """Plain text of a metadata field.

    Args:
        value: text, a list of texts (nested ones too), a list written as text
            (`"['a', 'b']"`), a number, or None.

    Returns:
        Text without markup and control characters, words parted by single spaces; the parts of
        a list are joined by a space. Cleaning a cleaned text changes nothing, unless the
        text then happens to look like a written list.
    """
    parts = (_plain(part) for part in _parts(value))
    return " ".join(part for part in parts if part)


def clean_categories(value: object) -> str:
    """Plain text of a category path, its steps joined by a comma and a space."""
    parts = (_plain(part) for part in _parts(value))
    return ", ".join(part for part in parts if part)


def _parts(value: object) -> Iterator[str]:
    """The texts of a value, lists opened."""
    if value is None:
        return
    if isinstance(value, list | tuple):
        for part in value:
            yield from _parts(part)
    elif isinstance(value, str):
        listed = _written_list(_UNPRINTABLE.sub(" ", value).strip())
        if listed is None:
            yield value
        else:
            yield from listed
    else:
        yield str(value)


def _written_list(text: str) -> list[str] | None:
    """The texts of a list that was saved by `str(list)`, or None if the text is no such list.

    Published files hold lists whose quotes were unescaped afterwards (`['it's', 'b']`); they
    are taken apart where a quote, a comma, a space and a quote follow each other.
    """
    if text == "[]":
        return []
    if not (text.startswith(("['", '["')) and text.endswith(("']", '"]'))):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unknown escapes such as "\d" are kept as they are
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        parts = _BETWEEN_PARTS.split(text[2:-2])
        return [_ESCAPED_QUOTE.sub(r"\1", _ESCAPED_SPACE.sub(" ", part)) for part in parts]
    return value if all(isinstance(part, str) for part in value) else None


def _plain(text: str) -> str:
    text = _spaced(text)
    while "&" in text or "<" in text:
        # Unescaping may reveal tags, and removing a tag may join an entity. Every change makes
        # the text shorter, so this ends.
        shorter = _ESCAPED_AMPERSAND.sub("&", text)
        shorter = _ENTITY.sub(_character, shorter)
        shorter = _TAG.sub(" ", _without_comments(_without_hidden(shorter)))
        shorter = _spaced(shorter)
        if shorter == text:
            break
        text = shorter
    return text


def _without_hidden(text: str) -> str:
    """A space for each script and style.

    Not one pattern, `<script>.*?</script>`: it would look through the rest of the text again for
    each tag that is never closed, minutes for a hostile description.
    """
    parts, begin, place = [], 0, 0
    unclosed: set[str] = set()
    while opener := _NOT_SHOWN.search(text, place):
        name = opener[1].lower()
        closer = None if name in unclosed else _SHOWN_AGAIN[name].search(text, opener.end())
        if closer is None:
            unclosed.add(name)
            place = opener.end()
        else:
            parts.append(text[begin : opener.start()])
            begin = place = closer.end()
    return " ".join([*parts, text[begin:]])


def _without_comments(text: str) -> str:
    """A space for each comment; likewise."""
    parts, begin = [], 0
    while (start := text.find("<!--", begin)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        parts.append(text[begin:start])
        begin = end + 3
    return " ".join([*parts, text[begin:]])


def _spaced(text: str) -> str:
    return " ".join(_UNPRINTABLE.sub(" ", text).split())


def _character(entity: re.Match[str]) -> str:
    return html.unescape(entity.group())
