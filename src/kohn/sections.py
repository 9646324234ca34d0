"""Check sections of settings: refuse unknown keys, complete partial sections, explain errors."""

import re
from typing import Any

import pydantic
from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A group of settings, which may contain other sections.

    If an inner section is given in part, its other settings take the defaults that the outer
    section states for them, which may differ from the defaults of the inner class.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _complete_sections(cls, document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        return {name: cls._completed(name, value) for name, value in document.items()}

    @classmethod
    def _completed(cls, name: str, value: Any) -> Any:
        field = cls.model_fields.get(str(name))
        default = None if field is None else field.default
        # The section that a discriminator selects, and so its defaults, are not known yet.
        if field is None or field.discriminator is not None or not isinstance(default, BaseModel):
            return value
        return {**default.model_dump(), **value} if isinstance(value, dict) else value


def merged(document: Any, values: Any) -> Any:
    """Return nested settings with some values replaced; a section of another family is replaced
    whole, other sections key by key."""
    if not (isinstance(document, dict) and isinstance(values, dict)):
        return values
    if values.get("family", document.get("family")) != document.get("family"):
        return values  # another model, which has its own settings
    return {**document, **{k: merged(document.get(k), v) for k, v in values.items()}}


_WORDS = {
    "missing": "this is missing",
    "extra_forbidden": "this key is not known",
    "invalid_key": "keys must be text",
    "int_type": "a whole number is needed",
    "int_parsing": "a whole number is needed",
    "int_from_float": "a whole number is needed",
    "float_type": "a number is needed",
    "float_parsing": "a number is needed",
    "finite_number": "a finite number is needed",
    "bool_type": "true or false is needed",
    "bool_parsing": "true or false is needed",
    "string_type": "text is needed",
    "list_type": "a list is needed",
    "tuple_type": "a list is needed",
    "dict_type": "a mapping of names to values is needed",
    "model_type": "a section with names and values is needed",
    "model_attributes_type": "a section with names and values is needed",
    "none_required": "only null is allowed here",
    "greater_than": "a number above {gt} is needed",
    "greater_than_equal": "{ge} or more is needed",
    "less_than": "a number below {lt} is needed",
    "less_than_equal": "{le} or less is needed",
    "too_short": "at least {min_length} is needed",
    "too_long": "at most {max_length} are possible",
    "string_too_short": "text of at least {min_length} characters is needed",
    "literal_error": "one of {expected} is needed",
    "enum": "one of {expected} is needed",
    "union_tag_invalid": "there is no {tag!r}: one of {expected_tags} is needed",
    "union_tag_not_found": "the key {discriminator} is missing, which selects the kind of section",
}
"""pydantic's type of an error -> message for users."""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def in_words(error: Any) -> str:
    """Return a message for users that says what is wrong with a setting.

    Args:
        error: one of pydantic's `ValidationError.errors()`.
    """
    context = error.get("ctx") or {}
    words = _WORDS.get(error["type"])
    if words is not None:
        return words.format_map({k: f"{v:g}" if _is_number(v) else v for k, v in context.items()})
    if error["type"] in ("value_error", "misfit"):  # from Kohn's own validators
        text = str(context.get("error") or error["msg"]).removeprefix("Value error, ")
        return text[0].lower() + text[1:]
    return f"this value is not allowed here ({re.sub('_', ' ', error['type'])})"
