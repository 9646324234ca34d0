"""Units. Kohn works in eV, Å, eV/Å, eV/Å³, e·Å, Å³, fs and amu, as ASE does.

Conversion factors are CODATA 2014 as in ``ase.units`` (checked in the tests), so that a
number converted here and one converted with ASE agree to the last bit that matters.
"""

HARTREE = 27.211386024367243
"""One hartree in eV."""
BOHR = 0.5291772105638411
"""One bohr in Å."""
KCAL_PER_MOL = 0.04336410390059322
"""One kcal/mol in eV."""
KJ_PER_MOL = 0.010364269574711572
"""One kJ/mol in eV."""
GPA = 0.006241509125883258
"""One GPa in eV/Å³."""
KBAR = 0.1 * GPA
"""One kbar in eV/Å³."""
DEBYE = 0.20819433442462576
"""One debye in e·Å."""
FEMTOSECOND = 0.09822694788464063
"""One fs in ASE's unit of time, Å·sqrt(amu/eV)."""
