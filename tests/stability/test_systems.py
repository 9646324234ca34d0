"""Hulls of chemical systems: what one hull of all entries says, at a small part of its size."""

import numpy as np
import pytest

from kohn.errors import InputError
from kohn.stability import ConvexHull, ElementalReferences, Entries
from kohn.stability.systems import SystemHulls

ELEMENTS = ("Al", "Cu", "Fe", "Li", "Na", "O", "P", "S")


def compounds(rng, elements: int, n: int, most: int = 4) -> list[dict[str, float]]:
    """Of up to `most` elements each, with small numbers of atoms."""
    found = []
    for _ in range(n):
        chosen = rng.choice(ELEMENTS[:elements], rng.integers(1, most + 1), replace=False)
        found.append({str(e): float(rng.integers(1, 7)) for e in chosen})
    return found


def energies(rng, of: list[dict[str, float]]) -> np.ndarray:
    """Totals: references, ideal mixing, noise."""
    mu = dict(zip(ELEMENTS, -np.arange(2.0, 10.0), strict=True))
    found = []
    for counts in of:
        n = sum(counts.values())
        x = np.array(list(counts.values())) / n
        mixing = float((x * np.log(x)).sum())
        found.append(
            sum(mu[e] * k for e, k in counts.items()) + n * (mixing + 0.2 * rng.normal() + 0.1)
        )
    return np.array(found)


def made(rng, elements: int, entries: int, candidates: int) -> tuple[Entries, Entries]:
    of_hull = [{e: 1.0} for e in ELEMENTS[:elements]] + compounds(rng, elements, entries)
    new = compounds(rng, elements, candidates)
    hull = Entries.of(of_hull, energies(rng, of_hull), [f"h{k}" for k in range(len(of_hull))])
    return hull, Entries.of(new, energies(rng, new), [f"c{k}" for k in range(len(new))])


def by_system(hulls: SystemHulls, candidates: Entries) -> np.ndarray:
    found = np.empty(len(candidates))
    for i, counts in enumerate(candidates.counts):
        system = [e for e, n in zip(candidates.elements, counts, strict=True) if n]
        hull = hulls.of(system)
        one = candidates.select([i]).over(hull.elements)
        e = hull.relative(one.fractions, one.energies_per_atom)
        found[i] = hull.distances_without(one.fractions, e, hull.copies(one, e)).values[0]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("elements", [6, 7, 8])
def test_distances_are_those_of_the_hull_of_all_entries(elements, rng):
    hull, candidates = made(rng, elements, 250, 40)
    hulls = SystemHulls(hull)
    found = by_system(hulls, candidates)
    whole = ConvexHull(hull)
    program = whole.distance(candidates, method="program").values
    np.testing.assert_allclose(found, program, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found, whole.distance(candidates).values, rtol=0, atol=1e-10)
    assert (found < -1e-3).any()
    assert (found > 1e-3).any()


def test_entries_as_candidates_are_without_themselves(rng):
    """Those of the whole hull that are its corners, and those that are not."""
    hull, _ = made(rng, 6, 120, 1)
    found = by_system(SystemHulls(hull), hull)
    whole = ConvexHull(hull)
    np.testing.assert_allclose(found, whole.distance(hull).values, rtol=0, atol=1e-10)
    assert (found[whole.distances > 1e-8] > 0).all()
    assert (found[whole.stable] <= 1e-8).all()


def test_the_comparison_can_fail(rng):
    """A hull of the pairs of elements alone is another one."""
    hull, candidates = made(rng, 6, 250, 40)
    pairs = np.flatnonzero((hull.counts > 0).sum(axis=1) <= 2)
    found = by_system(SystemHulls(hull.select(pairs)), candidates)
    assert np.abs(found - ConvexHull(hull).distance(candidates).values).max() > 1e-3


def test_hulls_hold_only_what_is_made_of_their_elements(rng):
    hull, _ = made(rng, 8, 200, 1)
    hulls = SystemHulls(hull)
    found = hulls.of(("O", "Fe", "Li"))
    assert found.elements == ("Fe", "Li", "O")
    inside = {
        name
        for name, counts in zip(hull.ids, hull.counts, strict=True)
        if {e for e, n in zip(hull.elements, counts, strict=True) if n} <= {"O", "Fe", "Li"}
    }
    assert set(found.entries.ids) == inside
    assert len(inside) < len(hull)


def test_hulls_are_built_once(rng, monkeypatch):
    hull, _ = made(rng, 6, 50, 1)
    hulls = SystemHulls(hull)
    first = hulls.of(("Fe", "Li"))
    assert hulls.of(["Li", "Fe"]) is first
    assert hulls.of(iter(("Fe", "Li"))) is first
    assert hulls.of(("Fe",)) is not first
    monkeypatch.setattr(hulls, "_build", None)  # nothing more can be built
    assert hulls.of(("Fe", "Li")) is first


def test_only_so_many_hulls_are_kept_the_last_used_first(rng):
    hull, _ = made(rng, 6, 50, 1)
    hulls = SystemHulls(hull, kept=2)
    a, b = hulls.of(("Al",)), hulls.of(("Cu",))
    assert hulls.of(("Al",)) is a
    hulls.of(("Fe",))  # the hull of Cu goes, which was used before that of Al
    assert len(hulls._hulls) == 2
    assert hulls.of(("Al",)) is a
    assert hulls.of(("Cu",)) is not b
    np.testing.assert_array_equal(hulls.of(("Cu",)).distances, b.distances)


def test_more_elements_than_a_word_has_bits(rng):
    """All elements up to uranium, and compounds of the first and the last of them."""
    from ase.data import chemical_symbols

    symbols = sorted(chemical_symbols[1:93])
    of = [{e: 1.0} for e in symbols]
    for _ in range(300):
        chosen = rng.choice([*symbols[:3], *symbols[59:66], *symbols[-3:]], 2, replace=False)
        of.append({str(e): float(rng.integers(1, 5)) for e in chosen})
    entries = Entries.of(of, [-3.0 * sum(c.values()) - rng.random() for c in of])
    hulls = SystemHulls(entries)
    for system in ((symbols[0], symbols[62]), (symbols[61], symbols[-1]), tuple(symbols[60:64])):
        inside = [i for i, c in enumerate(of) if set(c) <= set(system)]
        np.testing.assert_array_equal(hulls.rows(system), inside)
        assert len(inside) > len(system)
        assert hulls.of(system).entries.ids == tuple(entries.ids[i] for i in inside)


def test_elements_that_are_lacking_are_named():
    entries = Entries.of(["Li", "O2", "Li2O", "FeO"], [-2.0, -10.0, -15.0, -13.0])
    hulls = SystemHulls(entries)
    assert hulls.lacking([("Li", "O")]) == []
    assert hulls.lacking([("Li", "O"), ("Fe", "O"), ("Na",)]) == ["Fe", "Na"]
    with pytest.raises(InputError, match="no entry of Fe alone") as error:
        hulls.of(("Fe", "O"))
    assert "Fe, O" in error.value.expected


def test_references_stand_in_for_elements():
    entries = Entries.of(["Li", "Li2O", "FeO"], [-2.0, -15.0, -14.0])
    given = ElementalReferences.given({"O": -5.0, "Fe": -8.0, "Li": -2.0, "Na": -1.0})
    hulls = SystemHulls(entries, given)
    assert hulls.lacking([("Fe", "O"), ("Na", "Li")]) == []
    assert "reference:O" in hulls.of(("Fe", "O")).entries.ids
    e = hulls.of(("Fe", "O"))
    np.testing.assert_allclose(e.formation_energies[0], (-14.0 + 13.0) / 2, atol=1e-12)
    alone = hulls.of(("Na", "O"))  # an element that no entry has
    assert set(alone.entries.ids) == {"reference:Na", "reference:O"}


def test_the_tolerance_is_that_of_all(rng):
    hull, _ = made(rng, 6, 50, 1)
    hulls = SystemHulls(hull, tolerance=0.3)
    assert hulls.of(("Fe", "Li", "O")).tolerance == 0.3
    assert (
        hulls.of(("Fe", "Li", "O")).stable.sum()
        > SystemHulls(hull).of(("Fe", "Li", "O")).stable.sum()
    )


def test_formation_energies_need_no_entries_of_elements():
    entries = Entries.of(["Li2O"], [-2.0], ["x"], formation=True)
    assert ConvexHull(entries).stable[0]
    hulls = SystemHulls(entries)
    assert hulls.lacking([("Li", "O")]) == []
    assert hulls.of(("Li", "O")).e_above_hull[0] == 0.0
