import csv
import io

import numpy as np
import pytest

from lesionseg.tables import delimiter_of, encode_table, one_line, safe_cell


@pytest.mark.parametrize("hostile", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "=é", "\udcff=\udcff"])
def test_a_cell_is_no_formula_and_stays_what_it_is_when_read_again(hostile):
    once = safe_cell(hostile)
    assert once[0] not in "=+-@\t\r"
    assert safe_cell(once) == once
    once.encode()


def test_numbers_and_plain_names_stay_as_they_are():
    assert [safe_cell(x) for x in ("-1.5", -1, "+3", "a=b.jpg", "Müller 1.jpg", "")] == [
        "-1.5",
        "-1",
        "+3",
        "a=b.jpg",
        "Müller 1.jpg",
        "",
    ]


def test_tables_keep_floats_exactly_and_odd_names_whole():
    third = 1 / 3
    rows = [{"a": third, "b": "x\ny"}, {"a": np.float64(0.1), "b": 'q"u,o'}, {"b": "r\rs"}]
    data = encode_table(["a", "b"], rows)
    assert b"\r" not in data
    read = list(csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True))
    assert float(read[0]["a"]) == third
    assert read[1]["a"] == "0.1"
    assert [row["b"] for row in read] == ["x\ny", 'q"u,o', "r\\rs"]
    assert read[2]["a"] == ""


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("a,b\n1;2;3", ","),
        ("a;b\n1,2,3", ";"),
        ("a;b,c", ","),
        ("", ","),
        ("\r\n\na;b\r1,2,3", ";"),
        ("a", ","),
        ("a\tb\tc,d", "\t"),
        ('"a,b,c";d', ";"),
        ("a\tb;c", ";"),
    ],
)
def test_the_first_line_tells_the_delimiter(text, delimiter):
    assert delimiter_of(text) == delimiter


def test_a_message_stays_one_printable_line():
    assert one_line("ü 日本.jpg") == "ü 日本.jpg"
    assert one_line("a\nb\x1b[31m\udcff\u2028") == "a\\nb\\x1b[31m\\udcff\\u2028"
