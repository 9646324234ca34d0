"""Derivatives of noisy functions that may jump nearby, with the error of each.

    f'(0) = lim (f(h) − f(−h)) / 2h

Derivatives are central differences of several steps, extrapolated to none as Ridders does
(Adv. Eng. Softw. 4, 75 (1982)): of all the estimates the one whose error is smallest is taken,
noise included, and a violation counts only beyond that error.

Where f jumps by J, or its slope does, at a distance d from the place, steps beyond d see J / 2h or
J (h − d) / 2h and steps within see nothing of it. So a violation has to be there with shorter
steps too, as long as noise lets them say anything: a slope that is wrong is wrong with all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

from kohn.numerics.noise import CERTAIN

STEPS = (0.032, 0.032 / 4, 0.032 / 16, 0.032 / 64)
"""For coordinates in Å: from what float32 can tell to what steep energies need."""
SHORTER = (1.0, 1 / 16, 1 / 256, 1 / 4096)
"""Of the steps, where longer ones show a violation, or no derivative at all."""
BESIDE = 1.4
"""Of the steps, where a violation was seen with one length of them and needs a witness."""
DOUBT = 20.0
"""Of what does not converge, the error: near a jump, estimates agree by chance now and then."""
JUMP = "it jumps within the longer steps"
ENOUGH = 1e-6
"""For slopes in eV/Å: errors below need no shorter steps."""
RATIO = 16.0
"""By how much the leading error falls from one step to the next: the square of their ratio."""


def extrapolated(
    differences: Sequence[float], steps: Sequence[float], noise: float
) -> tuple[float, float]:
    """The derivative at step zero and its estimated error.

    Args:
        differences: central differences (f(h) − f(−h)) / 2h, for steps that fall by 4.
        noise: standard deviation of f.
    """
    rounding = [CERTAIN * noise / (2**0.5 * h) for h in steps]
    doubts = _doubts(differences, rounding)
    candidates: list[tuple[float, float]] = []
    row, factor = list(differences), RATIO
    while len(row) > 1:
        finer = [(factor * b - a) / (factor - 1) for a, b in pairwise(row)]
        levels = len(differences) - len(finer)
        for k, value in enumerate(finer):
            # Whatever the order, errors are trusted to fall by 16 a step and no faster.
            change = max(abs(value - row[k]) / RATIO, abs(value - row[k + 1]))
            doubt = max(doubts[k : k + levels])
            candidates.append((value, 3 * change + DOUBT * doubt + rounding[k + levels]))
        row, factor = finer, factor * RATIO
    return min(candidates, key=lambda x: x[1])


def _doubts(differences: Sequence[float], rounding: Sequence[float]) -> list[float]:
    """By how much each pair of steps disagrees, where steps do not converge; otherwise 0.

    Where f is smooth the disagreement falls by 16 from one pair to the next. Where it jumps
    nearby, differences go as jump / h until the step is too short to meet it.
    """
    d = [abs(a - b) for a, b in pairwise(differences)]
    slack = [a + b for a, b in pairwise(rounding)]
    falls = [fine <= coarse / 4 + s for coarse, fine, s in zip(d, d[1:], slack[1:], strict=False)]
    good = [all(falls[max(0, k - 1) : k + 1]) for k in range(len(d))]
    return [0.0 if ok else x for ok, x in zip(good, d, strict=True)]


def kink(bends: Sequence[float], steps: Sequence[float], noise: float = 0.0) -> float:
    """By how much slopes from the left and from the right differ at the place itself.

    A central difference converges there as well, to their mean. Of the estimates the second: a
    place about as far away as one of the steps makes one of them vanish.

    Args:
        bends: f(h) + f(−h) − 2 f(0), for steps that fall by 4; where f is smooth, over h, they
            fall with h.
        noise: standard deviation of f, which over h is (4 · 4 + 1) √6 σ / 12 h for the finer h.
    """
    jumps = [b / h for b, h in zip(bends, steps, strict=True)]
    found = [
        max(abs(4 * fine - coarse) / 3 - CERTAIN * 3.5 * noise / h, 0.0)
        for (coarse, fine), h in zip(pairwise(jumps), steps[1:], strict=True)
    ]
    return sorted(found)[1]


@dataclass(frozen=True)
class Slope:
    """A derivative beside what it should be.

    Attributes:
        wrong: by how much they differ, with its sign.
        error: of the derivative, noise included.
        noise: what of it noise is, at least.
        note: whether a jump nearby disturbs it.
    """

    wrong: float
    error: float
    noise: float = 0.0
    note: str = ""


def _agree(a: Slope, b: Slope) -> bool:
    """Whether both see the same violation, noise and a tenth aside."""
    seen = abs(a.wrong) > a.error and abs(b.wrong) > b.error
    return seen and abs(a.wrong - b.wrong) <= 0.1 * abs(a.wrong) + a.noise + b.noise


def slope(
    f: Callable[[float], float],
    expected: float,
    noise: float,
    *,
    steps: Sequence[float] = STEPS,
    enough: float = ENOUGH,
) -> Slope:
    """df/dt at t = 0 beside what it should be, by steps as long as jumps nearby allow.

    Args:
        f: a function of t. Each place is asked for once.
        expected: its derivative there.
        noise: standard deviation of f.
        steps: of t, each a quarter of the one before.
        enough: an error that needs no shorter steps.
    """
    f = cache(f)

    def by(share: float) -> Slope:
        shares = [share * h for h in steps]
        value, error = _central(f, shares, noise)
        return Slope(value - expected, error, CERTAIN * noise / (2**0.5 * shares[0]))

    found: list[Slope] = []
    for share in SHORTER:
        rounding = CERTAIN * noise / (2**0.5 * share * steps[0])
        if any(rounding > max(abs(x.wrong), x.error) for x in found):
            break  # noise: shorter steps say nothing more
        found.append(by(share))
        if abs(found[-1].wrong) <= found[-1].error <= enough:
            break
    best = _confirmed(found, lambda: by(BESIDE))
    noises = found[0].noise + best.noise
    jumps = abs(found[0].wrong - best.wrong) > 10 * (enough + noises)
    return replace(best, note=JUMP) if jumps else best


def _confirmed(found: Sequence[Slope], more: Callable[[], Slope]) -> Slope:
    """The one of least error; a violation only if steps of another length see the same.

    If none does, these steps crossed a jump, or met noise that is larger than it was said to be:
    then one that sees no violation, or that much more error.

    Args:
        more: takes other steps, where shorter ones say neither the one nor the other.
    """
    best = min(found, key=lambda x: x.error)
    others = [x for x in found if x is not best]
    if abs(best.wrong) <= best.error or any(_agree(best, x) for x in others):
        return best
    if all(abs(x.wrong - best.wrong) <= x.error + best.error for x in others):
        witness = more()
        others.append(witness)
        if _agree(best, witness):
            apart = abs(best.wrong - witness.wrong)
            return replace(best, error=max(best.error, witness.error) + 3 * apart)
    unseen = [x for x in others if abs(x.wrong) <= x.error]
    if unseen:
        return min(unseen, key=lambda x: x.error)
    return replace(best, error=best.error + min(abs(x.wrong - best.wrong) for x in others))


def _central(
    f: Callable[[float], float], steps: Sequence[float], noise: float
) -> tuple[float, float]:
    """df/dt at 0 and its error, from steps that fall by 4."""
    sides = [(f(-h), f(h)) for h in steps]
    differences = [(b - a) / (2 * h) for (a, b), h in zip(sides, steps, strict=True)]
    value, error = extrapolated(differences, steps, noise)
    return value, error + DOUBT * kink([a + b - 2 * f(0.0) for a, b in sides], steps, noise)
