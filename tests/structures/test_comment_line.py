"""The comment line of extended XYZ: the specification's examples, ASE's habits, and round trips."""

import numpy as np
import pytest
from ase.io.extxyz import key_val_str_to_dict
from hypothesis import given
from hypothesis import strategies as st

from kohn.structures.comment_line import NotReadable, pair, parse

MATRIX = np.arange(9).reshape(3, 3)


def same(a, b) -> bool:
    return (
        type(a) is type(b) and np.array_equal(a, b) if isinstance(a, str) else np.array_equal(a, b)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # of the specification
        ("a=1 b=-2 c=+3", {"a": 1, "b": -2, "c": 3}),
        ("a=1.5 b=.5 c=5. d=1e3 e=1.0D-01 f=2d+2", dict(a=1.5, b=0.5, c=5, d=1000, e=0.1, f=200)),
        ("a=T b=true c=True d=TRUE", dict(a=True, b=True, c=True, d=True)),
        ("a=F b=false c=False d=FALSE", dict(a=False, b=False, c=False, d=False)),
        ("a=[1,2, 3] b=[1.5]", {"a": [1, 2, 3], "b": [1.5]}),
        ("m=[[0,1,2],[3,4,5],[6,7,8]]", {"m": MATRIX}),
        ("m = [ [0, 1, 2], [3, 4, 5], [6, 7, 8] ]", {"m": MATRIX}),
        ("a=[T, F] b=[[T,F],[F,T]]", {"a": [True, False], "b": [[True, False], [False, True]]}),
        ('a=["x y",z]', {"a": ["x y", "z"]}),
        ("a={1 2 3} b={4}", {"a": [1, 2, 3], "b": 4}),
        ('a="1 2.5 3" b="7"', {"a": [1, 2.5, 3], "b": 7}),
        (r'a="say \"hi\"" b="back\\slash" c="two\nlines"',
         {"a": 'say "hi"', "b": "back\\slash", "c": "two\nlines"}),
        ('"a key"=1 b = 2', {"a key": 1, "b": 2}),
        ("id=007 n=0", {"id": "007", "n": 0}),
        # of ASE
        ("a='1 2 3' flag b=x", {"a": [1, 2, 3], "flag": True, "b": "x"}),
        ("a=1,2,3 b=1,x", {"a": [1, 2, 3], "b": "1,x"}),
        ("a=nan b=-inf", {"a": np.nan, "b": -np.inf}),
        ('a="_JSON [[1, 2], [3, 4]]"', {"a": [[1, 2], [3, 4]]}),
        (r'a="_JSON {\"b\": [1, \"c\"]}"', {"a": {"b": [1, "c"]}}),
        ("smiles=CC=O", {"smiles": "CC=O"}),
        # empty values
        ('c= Lattice="1 2"', {"c": "", "Lattice": [1, 2]}),
        ("c= d= e=", {"c": "", "d": "", "e": ""}),
        ('c="" d=1', {"c": "", "d": 1}),
        ("c= 5", {"c": 5}),
        ("", {}),
        ("  a=1  ", {"a": 1}),
    ],
)  # fmt: skip
def test_what_is_read(text, expected):
    found = parse(text)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, float) and np.isnan(value):
            assert np.isnan(found[key])
        else:
            assert same(found[key], value) or found[key] == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("e=1 e=2", "e occurs twice: 1 and 2"),
        ('a="1 2" a="1 3"', "a occurs twice"),
        ('a="1 2', 'opens with " and has no "'),
        ("a=[[1,2]", r"opens with \[ and has no \]"),
        ("a={1 2", "opens with { and has no }"),
        ('a="1"b=2', "a space is missing"),
        ("=3", "no key"),
        ('a="_JSON {"', "JSON"),
    ],
)
def test_what_is_not_read(text, why):
    with pytest.raises(NotReadable, match=why):
        parse(text)


def test_twice_the_same_is_no_contradiction():
    assert parse("e=1 e=1 f=nan f=nan")["e"] == 1


words = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12)
keys = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,10}", fullmatch=True)


def plain_text(text: str) -> bool:
    """Text that stands for nothing else: number, truth, JSON."""
    return isinstance(parse(pair("k", text))["k"], str)


@given(st.dictionaries(keys, words.filter(plain_text), max_size=4))
def test_texts_come_back(pairs):
    assert parse(" ".join(pair(k, v) for k, v in pairs.items())) == pairs


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=9), keys)
def test_numbers_come_back_exactly(numbers, key):
    line = pair(key, np.array(numbers))
    assert np.array_equal(np.atleast_1d(parse(line)[key]), numbers)
    assert np.array_equal(np.atleast_1d(key_val_str_to_dict(line.replace(key, "k"))["k"]), numbers)


@pytest.mark.parametrize(
    "value",
    [3, -2.5, True, False, "x", "two words", 'quo"ted', "a=b", [1, 2], [1.5, 2.5], [True, False],
     {"a": [1, "b"]}, ["x", "y z"], [[1, 2], [3, 4]], None, ""],
)  # fmt: skip
def test_values_come_back_and_ase_agrees(value):
    line = pair("k", value)
    mine, ases = parse(line)["k"], key_val_str_to_dict(line)["k"]
    assert same(mine, value) or mine == value
    assert value == "" or np.array_equal(mine, ases) or mine == ases  # ASE makes it an array
