"""Parse repeatable options of the form name=value."""

from collections.abc import Iterable

from kohn.errors import ConfigError


def assignments(
    texts: Iterable[str], option: str, example: str, *, twice: str, nothing: str
) -> dict[str, str]:
    """Return ['r_cut=5'] as a dictionary.

    Args:
        texts: what the user gave. option: its name, e.g. '--set'. example: a value, in words.
        twice, nothing: messages for a name that comes twice, and for half an assignment.

    Raises:
        ConfigError: a name or a value is missing, or a name comes twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not (name and value) or name in values:
            raise ConfigError(
                twice if name in values else nothing,
                expected=example,
                received=repr(text),
                fix=f"correct {option}",
            )
        values[name] = value
    return values
