"""Model files: what is written comes back, and what cannot be read says why."""

import numpy as np
import pytest

from kohn import modelfile
from kohn.errors import ModelFileError

ARRAYS = {"b.1": np.arange(3.0), "a": np.ones((2, 2), np.float32)}


def test_what_is_written_comes_back(tmp_path):
    path = tmp_path / "model.safetensors"
    modelfile.write(path, ARRAYS, {"kind": "potential", "cutoff": 5.0})
    arrays, metadata = modelfile.read(path)
    assert arrays.keys() == ARRAYS.keys()
    assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)
    assert (metadata["kind"], metadata["cutoff"]) == ("potential", 5.0)


def test_the_next_format_is_refused_and_this_one_is_not(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    known = modelfile.FORMAT
    for later, refused in ((0, False), (1, True)):
        monkeypatch.setattr(modelfile, "FORMAT", known + later)
        modelfile.write(path, ARRAYS, {})
        monkeypatch.setattr(modelfile, "FORMAT", known)
        if refused:
            with pytest.raises(ModelFileError, match="later"):
                modelfile.read(path)
        else:
            modelfile.read(path)
