"""Fuzzes the parsers of ratings and metadata, guided by coverage, for a bounded time.

Not among the tests: it needs `pip install atheris`, and is worth minutes to hours.

    python tests/fuzz_parsers.py ratings -max_total_time=300
    python tests/fuzz_parsers.py metadata -max_total_time=300

Other options are libFuzzer's (a folder to keep inputs in, -runs=N, -seed=N). Whatever differs
from the simple parsers of tests/plain_parsers.py, or raises, ends it with the input in a file.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

# The simple parsers too: those of ratings are Polars' own, whose branches nobody can see.
with atheris.instrument_imports(include=["macrec_core.catalog", "plain_parsers"]):
    from plain_parsers import check_metadata, check_ratings

CHECKS = {"ratings": check_ratings, "metadata": check_metadata}
# Without them a fuzzer is long in finding its first whole line.
BEGINNINGS = {
    "ratings": [
        b"B1,A1,5.0,100\r\nB2,A2,1e0,-7\n,\n\nB1,A1,.5,100,,\nB3,A3\nB4,A4,nan,1\nB 5,A5,1,1",
        "\ufeffé,中,+1.,+9\n\r,\n\ufffd,a,1,1\n".encode(),
    ],
    "metadata": [
        b'{"asin":"B1","title":"T &amp; <b>U</b>","category":["A","B"]}\n{"asin":"B1"}\n\n[1]\n{"a',
        b'\xef\xbb\xbf{"asin":"B2","categories":[["A","B"]],"description":"[\'x\', \'y\']"}',
    ],
}
TOKENS = {
    "ratings": [b",", b"\n", b"\r\n", b"\xef\xbb\xbf", b"1e3", b"inf", b"9223372036854775808"],
    "metadata": [
        b"\n", b"null", b'{"asin":"', b'"title":', b'"description":', b'"category":',
        b'"categories":', b'"brand":', b"\\ud800", b"\\u0000", b"<p>", b"&lt;", b"[[", b"]]",
    ],
}  # fmt: skip


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in CHECKS:
        sys.exit(__doc__)
    name = sys.argv.pop(1)
    with tempfile.TemporaryDirectory() as folder:
        seeds, tokens, path = (Path(folder) / part for part in ("seeds", "tokens", name))
        seeds.mkdir()
        for number, beginning in enumerate(BEGINNINGS[name]):
            (seeds / str(number)).write_bytes(beginning)
        escaped = ["".join(f"\\x{byte:02x}" for byte in token) for token in TOKENS[name]]
        tokens.write_text("".join(f'"{token}"\n' for token in escaped))
        options = [*sys.argv, f"-dict={tokens}", str(seeds)]
        atheris.Setup(options, lambda data: CHECKS[name](path, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
