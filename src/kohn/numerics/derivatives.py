"""Estimate derivatives, with their errors, of noisy functions that may jump nearby.

    f'(0) = lim (f(h) − f(−h)) / 2h

Central differences at several steps are extrapolated to step zero by Ridders' method
(Adv. Eng. Softw. 4, 75 (1982)). The estimate with the smallest error, noise included, is taken. A
violation, that is a difference from the expected value, counts only if it exceeds this error.

If f or its slope jumps by J at a distance d from the point, steps longer than d measure J / 2h or
J (h − d) / 2h, and shorter steps are not affected. A violation must therefore appear with shorter
steps too, as long as noise does not hide it: a slope that is wrong is wrong with all steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

from kohn.numerics.noise import NOISE_MULTIPLE

STEPS = (0.032, 0.032 / 4, 0.032 / 16, 0.032 / 64)
"""Steps of coordinates, Å: float32 needs the longest, steep energies need the shortest."""
SHORTENING_FACTORS = (1.0, 1 / 16, 1 / 256, 1 / 4096)
"""Factors of the steps, tried in turn if longer steps show a violation or do not converge."""
CONFIRMING_FACTOR = 1.4
"""Factor on the steps to confirm a violation that was measured with steps of one length only."""
DOUBT_FACTOR = 20.0
"""Error per disagreement of steps that do not converge: near a jump, steps can agree by chance."""
JUMP = "it jumps within the longer steps"
SUFFICIENT_ERROR = 1e-6
"""An error of slopes, eV/Å, below which shorter steps are not needed."""
RATIO = 16.0
"""Factor by which the leading error falls from step to step: the square of the steps' ratio, 4."""


def extrapolated(
    differences: Sequence[float], steps: Sequence[float], noise: float
) -> tuple[float, float]:
    """Return the derivative, extrapolated to step zero, and its estimated error.

    Args:
        differences: central differences (f(h) − f(−h)) / 2h, each step h a quarter of the last.
        noise: standard deviation of f.
    """
    rounding = [NOISE_MULTIPLE * noise / (2**0.5 * h) for h in steps]
    doubts = _disagreements(differences, rounding)
    candidates: list[tuple[float, float]] = []
    row, factor = list(differences), RATIO
    while len(row) > 1:
        finer = [(factor * b - a) / (factor - 1) for a, b in pairwise(row)]
        levels = len(differences) - len(finer)
        for k, value in enumerate(finer):
            # Whatever the order, errors are assumed to fall by 16 per step and no faster.
            change = max(abs(value - row[k]) / RATIO, abs(value - row[k + 1]))
            doubt = max(doubts[k : k + levels])
            candidates.append((value, 3 * change + DOUBT_FACTOR * doubt + rounding[k + levels]))
        row, factor = finer, factor * RATIO
    return min(candidates, key=lambda x: x[1])


def _disagreements(differences: Sequence[float], rounding: Sequence[float]) -> list[float]:
    """Return the difference of each pair of successive estimates, or 0 if the pair converges.

    If f is smooth, this difference falls by 16 from one pair to the next. If f jumps nearby,
    estimates scale as jump / h until the step h is too short to reach the jump.
    """
    d = [abs(a - b) for a, b in pairwise(differences)]
    slack = [a + b for a, b in pairwise(rounding)]
    falls = [fine <= coarse / 4 + s for coarse, fine, s in zip(d, d[1:], slack[1:], strict=False)]
    good = [all(falls[max(0, k - 1) : k + 1]) for k in range(len(d))]
    return [0.0 if ok else x for ok, x in zip(good, d, strict=True)]


def kink(bends: Sequence[float], steps: Sequence[float], noise: float = 0.0) -> float:
    """Return the difference between the slopes of f to the left and to the right of the point.

    Central differences converge at a kink as well, to the mean of both slopes. The second smallest
    estimate is returned: a kink about as far away as one of the steps makes one estimate vanish.

    Args:
        bends: f(h) + f(−h) − 2 f(0) for the steps h, each a quarter of the step before; divided
            by h, they fall with h if f is smooth.
        noise: standard deviation of f; an estimate has (4 · 4 + 1) √6 σ / 12 h, h the finer step.
    """
    jumps = [b / h for b, h in zip(bends, steps, strict=True)]
    estimates = [
        max(abs(4 * fine - coarse) / 3 - NOISE_MULTIPLE * 3.5 * noise / h, 0.0)
        for (coarse, fine), h in zip(pairwise(jumps), steps[1:], strict=True)
    ]
    return sorted(estimates)[1]


@dataclass(frozen=True)
class Slope:
    """A derivative compared with its expected value.

    Attributes:
        wrong: derivative minus expected value.
        error: the error of the derivative, noise included.
        noise: the smallest error that noise causes with these steps.
        note: says that a jump nearby disturbs the derivative; empty if none does.
    """

    wrong: float
    error: float
    noise: float = 0.0
    note: str = ""


def _agree(a: Slope, b: Slope) -> bool:
    """Return whether both slopes show the same violation, within the noise and a tenth of it."""
    violated = abs(a.wrong) > a.error and abs(b.wrong) > b.error
    return violated and abs(a.wrong - b.wrong) <= 0.1 * abs(a.wrong) + a.noise + b.noise


def slope(
    f: Callable[[float], float],
    expected: float,
    noise: float,
    *,
    steps: Sequence[float] = STEPS,
    enough: float = SUFFICIENT_ERROR,
) -> Slope:
    """Compare df/dt at t = 0 with its expected value, by steps as long as jumps nearby allow.

    Args:
        f: a function of t, called once for each t.
        expected: the derivative that f should have at t = 0.
        noise: standard deviation of f.
        steps: steps of t, each a quarter of the step before.
        enough: an error below which shorter steps are not needed.
    """
    f = cache(f)

    def measured(share: float) -> Slope:
        shares = [share * h for h in steps]
        value, error = _central(f, shares, noise)
        return Slope(value - expected, error, NOISE_MULTIPLE * noise / (2**0.5 * shares[0]))

    slopes: list[Slope] = []
    for share in SHORTENING_FACTORS:
        rounding = NOISE_MULTIPLE * noise / (2**0.5 * share * steps[0])
        if any(rounding > max(abs(x.wrong), x.error) for x in slopes):
            break  # noise hides what shorter steps could show
        slopes.append(measured(share))
        if abs(slopes[-1].wrong) <= slopes[-1].error <= enough:
            break
    best = _confirmed(slopes, lambda: measured(CONFIRMING_FACTOR))
    noises = slopes[0].noise + best.noise
    jumps = abs(slopes[0].wrong - best.wrong) > 10 * (enough + noises)
    return replace(best, note=JUMP) if jumps else best


def _confirmed(slopes: Sequence[Slope], measure: Callable[[], Slope]) -> Slope:
    """Return the slope of least error; a violation only if steps of another length confirm it.

    Without confirmation, the steps crossed a jump or the noise is larger than given: then return a
    slope without violation or, if all slopes have one, that of least error with an enlarged error.

    Args:
        measure: measures a slope with other steps, if `slopes` neither confirm nor exclude it.
    """
    best = min(slopes, key=lambda x: x.error)
    others = [x for x in slopes if x is not best]
    if abs(best.wrong) <= best.error or any(_agree(best, x) for x in others):
        return best
    if all(abs(x.wrong - best.wrong) <= x.error + best.error for x in others):
        witness = measure()
        others.append(witness)
        if _agree(best, witness):
            apart = abs(best.wrong - witness.wrong)
            return replace(best, error=max(best.error, witness.error) + 3 * apart)
    harmless = [x for x in others if abs(x.wrong) <= x.error]
    if harmless:
        return min(harmless, key=lambda x: x.error)
    return replace(best, error=best.error + min(abs(x.wrong - best.wrong) for x in others))


def _central(
    f: Callable[[float], float], steps: Sequence[float], noise: float
) -> tuple[float, float]:
    """Return df/dt at t = 0 and its error, by central differences with steps that fall by 4."""
    sides = [(f(-h), f(h)) for h in steps]
    differences = [(b - a) / (2 * h) for (a, b), h in zip(sides, steps, strict=True)]
    value, error = extrapolated(differences, steps, noise)
    return value, error + DOUBT_FACTOR * kink([a + b - 2 * f(0.0) for a, b in sides], steps, noise)
