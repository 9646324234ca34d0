"""Options of the form name=value, given any number of times."""

from collections.abc import Iterable

from kohn.errors import ConfigError


def assignments(
    texts: Iterable[str], option: str, example: str, *, twice: str, nothing: str
) -> dict[str, str]:
    """['r_cut=5'] as a dictionary.

    Args:
        texts: what was given. option: its name, as '--set'. example: of one, in words.
        twice, nothing: what is wrong with a name that comes twice, or with half an assignment.

    Raises:
        ConfigError: no name or no value, or a name that comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not (name and value) or name in found:
            raise ConfigError(
                twice if name in found else nothing,
                expected=example,
                received=repr(text),
                fix=f"correct {option}",
            )
        found[name] = value
    return found
