"""Format numbers and times as text: three significant digits, commas between thousands."""

import math

NONE = "–"


def number(value: float | None, digits: int = 3) -> str:
    """Return `value` to `digits` significant digits, with exponent only below 1e-4 or from 1e8."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    exponent = int(f"{value:.{digits - 1}e}".split("e")[1])  # after rounding: 9.996 is 10.0
    if exponent < -4 or exponent > 7:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    return f"{value:,.{max(0, digits - 1 - exponent)}f}".replace("-", "−")


def fixed(value: float | None, decimals: int) -> str:
    """Return `value` with a number of `decimals`, or a dash for None."""
    if value is None:
        return NONE
    return f"{round(value, decimals) + 0.0:,.{decimals}f}".replace("-", "−")  # + 0.0: no "−0"


def count(value: int | None) -> str:
    """Return a whole number with commas between thousands, or a dash for None."""
    return NONE if value is None else f"{value:,}"


def plural(value: int, noun: str, several: str = "") -> str:
    """Return '1 frame' or '2 frames'; `several` is the plural if an s is not enough."""
    return f"{value:,} {noun if value == 1 else several or noun + 's'}"


def duration(seconds: float | None) -> str:
    """Return a time in s, in min and s, or in h and min; a dash for None."""
    if seconds is None:
        return NONE
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours} h {rest:02d} min"


def times(model: float | None, baseline: float | None) -> str:
    """Compare the error of a model with the error of a baseline in words: '15 times below'."""
    if model is None or not baseline:
        return ""
    if model >= baseline:
        return "not below"
    if model == 0:
        return "below"
    ratio = baseline / model
    return f"{ratio:.0f} times below" if ratio >= 9.95 else f"{ratio:.1f} times below"
