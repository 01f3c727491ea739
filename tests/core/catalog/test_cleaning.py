from __future__ import annotations

import gzip
import html
import json
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from macrec_core.catalog.cleaning import clean_categories, clean_text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        ("", ""),
        ("  two \t words\n", "two words"),
        ("T&Uuml;RLEN 0-1&quot; AGD", 'TÜRLEN 0-1" AGD'),
        ("Salt &amp;amp; Pepper", "Salt & Pepper"),
        ("a&nbsp;b", "a b"),
        ("R&D, AT&T, ?a=1&copy=2 &nothing", "R&D, AT&T, ?a=1&copy=2 &nothing"),
        ("<b>Bold</b><br />new line", "Bold new line"),
        ("&lt;b&gt;Bold&lt;/b&gt;", "Bold"),
        ("5 < 6 and 7 > 3, <> and I <3 it", "5 < 6 and 7 > 3, <> and I <3 it"),
        ("before<script>var a = '<b>';</script>after", "before after"),
        ("before<!-- a > b -->after", "before after"),
        ("nul\x00byte and \ud800 surrogate", "nul byte and surrogate"),
        (["one", " two ", "", None], "one two"),
        ([["nested"], "list"], "nested list"),
        ("['Relay/CAPACITOR', \"it's\"]", "Relay/CAPACITOR it's"),
        ("['line\\none']", "line one"),
        ("[]", ""),
        ("['80s] hits", "['80s] hits"),
        ("""['it's', '1/8" x\\n2\\"', "b"]""", """it's 1/8" x 2" b"""),
        ("[1, 2]", "[1, 2]"),
        (12.5, "12.5"),
    ],
)
def test_cleaning_gives_plain_text(value, expected):
    assert clean_text(value) == expected


def test_categories_are_joined_by_commas_whatever_their_nesting():
    assert clean_categories(["Music", "Wind &amp; Brass"]) == "Music, Wind & Brass"
    assert clean_categories([["Music", "Guitars"]]) == "Music, Guitars"
    assert clean_categories("['Music', 'Guitars']") == "Music, Guitars"


MARKUP = st.lists(
    st.sampled_from(["&", "amp;", "lt;", "#38;", "<b>", "<", ">", "br", "/", "x", " ", "\x00", "é"])
).map("".join)


@given(st.one_of(st.text(), MARKUP))
def test_cleaning_a_cleaned_text_changes_nothing(text):
    cleaned = clean_text(text)
    assume(not cleaned.startswith("["))
    assert clean_text(cleaned) == cleaned
    assert cleaned == " ".join(cleaned.split())
    cleaned.encode("utf-8")


@given(st.lists(st.text(alphabet="ab .'\"\\é", min_size=1), min_size=1))
def test_a_list_and_its_written_form_clean_alike(parts):
    assert clean_text(str(parts)) == clean_text(parts)


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("C", "Z"))))
def test_escaped_text_comes_back(text):
    plain = re.sub(r"[<>&]", "", text)
    assert clean_text(f"word {html.escape(plain)}") == f"word {plain}".strip()


def test_deeply_nested_written_list_is_kept_as_text():
    hostile = "['" + "[" * 50_000 + "']"
    assert clean_text(hostile) == "[" * 50_000
    hostile = '["a", ' + "(" * 50_000 + ' "b"]'
    assert clean_text(hostile) == hostile[2:-2]


def test_real_text_keeps_every_word(shared_data):
    path = shared_data / "industrial" / "Industrial_and_Scientific.item.json.gz"
    records = json.loads(gzip.decompress(path.read_bytes()))
    described = [r["description"] for r in records.values() if r["description"]]
    cleaned = [clean_text(text) for text in described]
    assert len(described) == 3457
    assert not any(text.startswith("['") or "<br" in text or "&amp;" in text for text in cleaned)
    assert max(map(len, cleaned)) == 5818  # nothing is cut
    # Every word of the published text, markup aside, is still there and in order.
    for text, plain in zip(described, cleaned, strict=True):
        source = re.sub(r"\\[nrtx]|<[^<>]*>|&[#\w]+;", " ", text)
        words = re.findall(r"[a-z]{5,}", source.lower())
        found = iter(re.findall(r"[a-z]{5,}", re.sub(r"\\[nrt]", " ", plain).lower()))
        assert all(any(word == other for other in found) for word in words), text
    titles = {clean_text(r["title"]) for r in records.values()}
    assert 'TÜRLEN DIAL INDICATOR 0-1" AGD SPEC 0.001" w/LUG BACK' in titles
