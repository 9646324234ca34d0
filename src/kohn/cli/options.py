"""Parse repeatable options of the form name=value."""

from collections.abc import Iterable

from kohn.errors import ConfigError


def assignments(
    texts: Iterable[str], option: str, example: str, *, twice: str, nothing: str
) -> dict[str, str]:
    """Return name=value texts as a dictionary: ['r_cut=5'] gives {'r_cut': '5'}.

    Args:
        texts: values of one option. option: name of that option. example: a valid value, in words.
        twice, nothing: error messages for a repeated name, and for a missing name or value.

    Raises:
        ConfigError: a name or a value is missing, or a name is repeated.
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
