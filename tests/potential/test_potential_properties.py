"""Labels of properties beside energies, and where they are read from."""

from dataclasses import replace

import pytest
from brute_force import structure

from kohn.errors import InputError
from kohn.potential.properties import label_of
from kohn.structures.properties import PREDICTED_BY

ATOM = structure([[0, 0, 0]], [8])


def test_a_predicted_number_is_no_label_and_a_reference_is_one():
    assert label_of(replace(ATOM, info={"gap": 1.5}), "gap") == 1.5
    predicted = {"gap": 1.5, PREDICTED_BY: "a model"}
    assert label_of(replace(ATOM, info=predicted), "gap") is None
    assert label_of(replace(ATOM, info=predicted | {"REF_gap": 2.5}), "gap") == 2.5
    assert label_of(ATOM, "gap") is None


def test_what_is_no_number_is_refused():
    for value in ("wide", [1.0, 2.0], float("nan")):
        with pytest.raises(InputError, match="not a finite number"):
            label_of(replace(ATOM, info={"gap": value}), "gap")
