"""Training on structures that no file has, and on data with labels that are no numbers."""

from pathlib import Path

import numpy as np
import pytest

import kohn
from kohn.errors import CheckFailed, ConfigError, InputError
from kohn.structures import to_ase
from kohn.training import train


@pytest.mark.slow
def test_atoms_in_memory(ethanol, tiny, tmp_path):
    """The same model as from a file; the run knows its data and can be resumed."""
    frames = [to_ase(s) for s in kohn.read(ethanol)[:8]]
    potential = train(frames, out=tmp_path / "run", **tiny)
    file = tmp_path / "run" / "structures.extxyz"
    again = train(file, out=tmp_path / "again", **tiny)
    for name in ("energy", "forces"):
        a, b = (p.predict(frames[0])[0].as_labels()[name] for p in (potential, again))
        np.testing.assert_array_equal(a, b)
    train(frames, out=tmp_path / "run", resume=True, **tiny)
    with pytest.raises(ConfigError, match="not those that the run began with"):
        train(frames[:7], out=tmp_path / "run", resume=True, **tiny)
    # Distances of what was learned are in the file, and these frames are within them.
    seen = kohn.load(tmp_path / "run").domain.distances
    assert seen is not None
    assert seen.shortest.keys() == {(1, 1), (1, 6), (6, 6), (1, 8), (6, 8)}
    assert not any(p.outside for p in potential.predict(frames))


@pytest.mark.parametrize("bad", [[], [7], "none.xyz"])
def test_bad_data_leave_nothing_behind(bad, tmp_path, tiny):
    with pytest.raises((InputError, ConfigError)):
        train(bad, out=tmp_path / "run", **tiny)
    assert not (tmp_path / "run").exists()


def test_labels_that_are_not_finite_are_refused_until_they_are_allowed(ethanol, tiny, tmp_path):
    """Told to go on, the run gets as far as its own folder, without that label."""
    text = Path(ethanol).read_text().splitlines()
    k = text[1].index("REF_energy=")
    text[1] = text[1][:k] + "REF_energy=nan " + text[1][k:].split(" ", 1)[-1]
    path = tmp_path / "x.extxyz"
    path.write_text("\n".join(text) + "\n")
    with pytest.raises(CheckFailed, match="nonfinite-label"):
        train(path, out=tmp_path / "run", **tiny)
    from kohn.training.preparation import prepare
    from kohn.training.train import settings_from

    sections = {**tiny, "data": {"allow": ["nonfinite-label"], "valid_fraction": 0.3}}
    prepared = prepare(settings_from(path, sections))
    frames = [*prepared.train.structures, *prepared.valid.structures]
    assert len(frames) == 24
    assert sum("energy" in s.labels for s in frames) == 23
