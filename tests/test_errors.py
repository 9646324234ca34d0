"""Errors that users read, and checksums that protect their files."""

import pickle

import numpy as np

from kohn.errors import CheckFailed, ConfigError, InputError, KohnError, Place, nearest
from kohn.modelfile import checksum


def test_an_error_says_where_what_was_expected_what_came_and_what_to_do():
    place = Place("water.extxyz", frame=0, line=1)
    error = InputError("wrong", expected="a", received="b", where=place, fix="c")
    assert str(error).splitlines() == [
        "wrong",
        "  where: water.extxyz, frame 0, line 1",
        "  expected: a",
        "  received: b",
        "  fix: c",
    ]
    assert str(InputError("wrong", where=Place(), fix="c")) == "wrong\n  fix: c"


def test_an_error_of_another_process_is_the_same():
    error = ConfigError("wrong", expected="a", received="b", where=Place("x", 2, 7), fix="c")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is ConfigError
    assert vars(again) == vars(error)


def test_bad_input_ends_with_two_and_a_verdict_with_one():
    assert (KohnError.exit_code, InputError.exit_code, CheckFailed.exit_code) == (2, 2, 1)


def test_the_nearest_word_is_guessed_whatever_its_case():
    assert nearest("Chanels", ["channels", "cutoff"]) == "channels"
    assert nearest("zzz", ["channels", "cutoff"]) is None


def test_a_checksum_is_of_names_shapes_dtypes_and_bytes():
    a = np.arange(6, dtype=np.int32)
    others = [
        {"a": a.reshape(2, 3)},
        {"a": a.view(np.uint32)},
        {"b": a},
        {"a": a + 1},
        {"a": a, "b": a[:0]},
    ]
    sums = [checksum({"a": a}, {"k": 1}), checksum({"a": a}, {"k": 2})]
    sums += [checksum(arrays, {"k": 1}) for arrays in others]
    assert len(set(sums)) == len(sums)
    assert checksum({"a": a}, {"k": 1, "sha256": "itself"}) == sums[0]
