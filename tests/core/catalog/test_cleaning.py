from __future__ import annotations

import gzip
import html
import json
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from macrec_core.catalog.cleaning import (
    _without_comments,
    _without_hidden,
    clean_categories,
    clean_text,
)


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


# Item of the industrial data, field, and how its cleaned text begins and ends; where both are
# the same, it is the whole text.
GOLDEN = [
    ("22", "title", "Eye-Vac EVPRO Tuxedo Black", "Bag-less Canister. Floor Care"),
    ("53", "title", 'Türlen Precision TEST DIAL INDICATOR 7 JEWELS .0005" 0-15-0', ""),
    ("83", "title", "Wixey WR300 Type 2 Digital Angle Gauge with Backlight…", ""),
    ("287", "title", 'KYDEX V Sheet - 0.028" Thick, Black, 12”x12” Nominal', ""),
    ("48", "description", "", ""),
    ("165", "description", "3/4\" x 60' Vinyl Electrical Tape, Vinyl, Cello Wrap.", ""),
    ("18", "description", 'Vacuum Cleaner Conversion Unit Use accessories for a 2-1/2" hose', ")."),
    ("126", "description", "THE WORLDS STRONGEST MAGNETThe Super", "Magnet Cup every time."),
    ("324", "description", "2 terminals, thread connection,", "home appliances, etc."),
    ("1765", "description", "This is the type that", "directly in front of the LED."),
    ("2958", "description", "DIP Quartz Crystal application", "part for daily use."),
    ("2122", "description", "", "every six months for best results."),
]


def test_real_texts_come_out_as_expected(shared_data):
    path = shared_data / "industrial" / "Industrial_and_Scientific.item.json.gz"
    records = json.loads(gzip.decompress(path.read_bytes()))
    for item, field, start, end in GOLDEN:
        text = clean_text(records[item][field])
        assert text.startswith(start) and text.endswith(end), (item, field, text)
        assert end or text == start, (item, field, text)
    assert "It\u2019s great" in clean_text(records["1765"]["description"])
    assert "50 PCS(± 2%) packaged" in clean_text(records["2958"]["description"])
    assert "FEATURES: <> Zero setting" in clean_text(records["327"]["description"])
    assert len(clean_text(records["2122"]["description"])) == 5818  # the longest


def test_a_text_of_any_length_is_kept_whole():
    words = [f"word{number} &amp; <i>more</i>" for number in range(20_000)]
    expected = " ".join(f"word{number} & more" for number in range(20_000))
    assert len(expected) > 300_000
    assert clean_text(" ".join(words)) == clean_text(words) == clean_text(str(words)) == expected


@pytest.mark.parametrize("opener", ["<!--", "<script>", "<style>", "<script"])
def test_markup_that_is_never_closed_is_linear_work(opener):
    # A pattern that looked for each one's end would take minutes.
    assert clean_text(opener * 100_000 + " end").endswith("end")


@given(
    st.lists(
        st.sampled_from(
            ["<script>", "</script>", "<style a>", "</STYLE >", "<!--", "-->", "a", " "]
        ),
        max_size=12,
    )
)
def test_what_is_not_shown_is_what_a_pattern_finds(parts):
    text = "".join(parts)
    hidden = re.compile(r"<(script|style)\b[^<>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
    assert _without_hidden(text) == hidden.sub(" ", text)
    assert _without_comments(text) == re.sub(r"<!--.*?-->", " ", text, flags=re.DOTALL)
