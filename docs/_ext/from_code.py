"""Reference pages that are written from the code, before Sphinx reads its sources.

Docstrings are plain text with equations in it, so they are turned into Markdown here: indented
lines stay as they are, and the sections Args, Attributes, Returns and Raises become lists.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

SECTIONS = ("Args", "Attributes", "Returns", "Raises")
PARTS = (
    ("kohn", "The functions of the data flow: read, check, train, predict, decide."),
    ("kohn.structures", "Structures, labels, reading and writing."),
    ("kohn.graphs", "Neighbour lists and batches of fixed shape."),
    ("kohn.descriptors", "Descriptors as scikit-learn transformers, and kernels."),
    ("kohn.o3", "Spherical harmonics, Wigner matrices and Clebsch–Gordan products."),
    ("kohn.models", "The families of networks and the Gaussian process."),
    ("kohn.potential", "Potentials and models of properties."),
    ("kohn.uncertainty", "Predictions with confidence."),
    ("kohn.evaluation", "Errors against labels."),
    ("kohn.simulation", "Relaxation."),
    ("kohn.audits", "Laws of physics measured on any calculator."),
    ("kohn.stability", "Entries, convex hulls and P(stable)."),
    ("kohn.discovery", "Screening."),
    ("kohn.interfaces.mace_torch", "Models of mace-torch."),
    ("kohn.errors", "The errors that Kohn raises."),
)
"""Modules whose public names the reference lists."""


def setup(app: Any) -> dict[str, Any]:
    """Write the pages when the build begins."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "version": "1"}


def write_pages(app: Any) -> None:
    """Write all generated pages; a file whose text is the same keeps its time."""
    folder = Path(app.srcdir) / "reference"
    pages = {f"api/{name}.md": api_page(name, about) for name, about in PARTS}
    pages |= {
        "settings.md": settings_page(),
        "commands.md": commands_page(),
        "labels.md": labels_page(),
        "../concepts/equations.md": equations_page(Path(app.srcdir) / "equations.yaml"),
        "../benchmarks.md": benchmarks_page(Path(app.srcdir).parent / "benchmarks" / "README.md"),
    }
    for name, text in pages.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


# API


def api_page(name: str, about: str) -> str:
    """The public names of a module with their signatures and docstrings."""
    module = importlib.import_module(name)
    lines = [f"# {name}", "", about, ""]
    for public in public_names(module):
        thing = getattr(module, public)
        if inspect.isclass(thing):
            lines += class_text(public, thing)
        elif callable(thing):
            lines += function_text(public, thing, 2)
        else:
            lines += [f"## {public}", "", f"A `{type(thing).__name__}`.", ""]
    return "\n".join(lines) + "\n"


def public_names(module: Any) -> list[str]:
    """Names in `__all__`, else those that are exported as `name as name` or defined there."""
    if hasattr(module, "__all__"):
        names = module.__all__
    else:
        text = inspect.getsource(module)
        exported = re.findall(r"import (\w+) as \1\b", text)
        names = exported or [
            n for n, x in vars(module).items() if getattr(x, "__module__", "") == module.__name__
        ]
    return sorted({n for n in names if not n.startswith("_")}, key=lambda n: (n.lower(), n))


def class_text(name: str, cls: type) -> list[str]:
    """A class with its public methods and properties."""
    lines = [f"## {name}", "", *signature(name, cls), *markdown(inspect.getdoc(cls) or "")]
    for key, value in vars(cls).items():
        if key.startswith("_"):
            continue
        if isinstance(value, property) or type(value).__name__ == "cached_property":
            doc = inspect.getdoc(value) or ""
            lines += [f"### {name}.{key}", "", *markdown(doc)]
        elif isinstance(value, (classmethod, staticmethod)) or inspect.isfunction(value):
            lines += function_text(f"{name}.{key}", getattr(cls, key), 3)
    return lines


def function_text(name: str, function: Any, level: int) -> list[str]:
    """A function with its signature and docstring."""
    doc = inspect.getdoc(function) or ""
    return ["#" * level + f" {name}", "", *signature(name, function), *markdown(doc)]


def signature(name: str, thing: Any) -> list[str]:
    """The signature as code, one argument on a line where it is long."""
    try:
        text = str(inspect.signature(thing))
    except (TypeError, ValueError):
        return []
    text = re.sub(r"<(class|function) '?([\w.]+)'?[^>]*>", r"\2", text)
    text = re.sub(r" at 0x[0-9a-f]+", "", text)
    text = re.sub(
        r"\b(?:collections\.abc|typing|numpy|jaxtyping|kohn(?:\.\w+)+|jax)\.(?=\w)", "", text
    )
    if len(text) > 70:
        arguments = split_arguments(text[1 : text.rindex(")")])
        text = "(\n    " + ",\n    ".join(arguments) + ",\n)" + text[text.rindex(")") + 1 :]
    return ["```python", f"{name}{text}", "```", ""]


def split_arguments(text: str) -> list[str]:
    """The arguments between commas that stand in no bracket."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "[(") - (sign in "])")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def markdown(doc: str) -> list[str]:
    """A docstring as Markdown."""
    lines: list[str] = []
    section = ""
    for line in doc.splitlines():
        head = line.strip().removesuffix(":")
        if head in SECTIONS and line == line.lstrip() and line.strip().endswith(":"):
            section = head
            lines += ["", f"**{head}**", ""]
        elif section and line.startswith("    "):
            lines.append(item(line, section))
        else:
            section = section if not line.strip() else ""
            lines.append(line if line.startswith("    ") else escaped(line))
    return [*around_indented(lines), ""]


def item(line: str, section: str) -> str:
    """A line of a section: names begin an item, further lines go on with it."""
    text, deeper = line[4:], line.startswith("     ")
    match = re.match(r"([\w*, ]+): ", text)
    if section != "Returns" and match and not deeper:
        return f"- `{match[1]}`: {escaped(text[match.end() :])}"
    return ("  " if deeper else "") + escaped(text.strip())


def escaped(text: str) -> str:
    """Text whose signs Markdown would take for its own."""
    parts = re.split(r"(`[^`]*`)", text)
    signs = re.compile(r"([*_<>|\\$\[\]])")
    return "".join(p if p.startswith("`") else signs.sub(r"\\\1", p) for p in parts)


def around_indented(lines: list[str]) -> Iterator[str]:
    """The lines with blank ones around those that are indented, which are code blocks."""
    before = ""
    for line in lines:
        begins = line.startswith("    ") and before and not before.startswith("    ")
        ends = line and not line.startswith(" ") and before.startswith("    ")
        if begins or ends:
            yield ""
        yield line
        before = line


# Settings, commands, labels


def settings_page() -> str:
    """Every setting of `kohn train`, with a table for each family of models."""
    from kohn.models import FAMILIES
    from kohn.training import template

    lines = [
        "# Settings of a training run",
        "",
        "`kohn template train > train.yaml` writes this file. Only `data.train` is needed.",
        "",
        "```yaml",
        template("mace"),
        "```",
        "",
    ]
    for family, (config, _) in FAMILIES.items():
        doc = (config.__doc__ or "").split("\n")[0]
        lines += [f"## model: {family}", "", escaped(doc), "", "| setting | default | meaning |"]
        lines += ["| --- | --- | --- |"]
        for name, field in config.model_fields.items():
            if name == "family":
                continue
            default = field.get_default(call_default_factory=True)
            shown = default.model_dump() if hasattr(default, "model_dump") else default
            shown = list(shown) if isinstance(shown, tuple) else shown
            lines.append(f"| `{name}` | `{shown}` | {escaped(field.description or '')} |")
        lines.append("")
    return "\n".join(lines)


def commands_page() -> str:
    """Every command with its arguments and options."""
    import typer

    from kohn.cli.app import app

    group = typer.main.get_command(app)
    lines = [
        "# Commands",
        "",
        "Progress and messages go to stderr; `--json` puts one document on stdout. Exit code 0",
        "means done, 1 that a check failed, 2 bad input or usage.",
        "",
    ]
    for name, command in sorted(group.commands.items()):  # type: ignore[attr-defined]
        lines += [f"## kohn {name}", "", *help_text(command.help or "")]
        usage = [metavar(p) for p in command.params if p.param_type_name == "argument"]
        lines += ["```", " ".join(["kohn", name, *usage, "[OPTIONS]"]), "```", ""]
        lines += ["| argument or option | default | meaning |", "| --- | --- | --- |"]
        for parameter in command.params:
            lines.append(parameter_row(parameter))
        if command.epilog:
            lines += ["", command.epilog]
        lines.append("")
    return "\n".join(lines)


def help_text(text: str) -> list[str]:
    """The help of a command, whose lines are those of a docstring."""
    return [*inspect.cleandoc(text).splitlines(), ""]


def metavar(argument: Any) -> str:
    """The name of an argument as its help shows it."""
    name = argument.metavar or (argument.name or "").upper()
    return name if argument.required or name.startswith("[") else f"[{name}]"


def parameter_row(parameter: Any) -> str:
    """One row of the table of a command."""
    if parameter.param_type_name == "argument":
        names = metavar(parameter)
    else:
        names = ", ".join(parameter.opts)
    default = parameter.default
    hidden = default is None or default is False or callable(default) or default == ()
    shown = "" if hidden else f"`{default}`"
    return f"| `{names}` | {shown} | {escaped(getattr(parameter, 'help', '') or '')} |"


def labels_page() -> str:
    """The table of labels."""
    from kohn.structures import PROPERTIES

    lines = [
        "# Labels",
        "",
        "One table states what each quantity is called, its shape and its unit. Reading, losses,",
        "metrics, audits and reports all use it. The aliases are read in this order.",
        "",
        "| label | key | aliases | shape | unit | sign | parity | extensive |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for p in PROPERTIES.values():
        shape = " × ".join(map(str, p.shape)) or "scalar"
        parity = "even" if p.parity > 0 else "odd"
        aliases = ", ".join(f"`{a}`" for a in p.aliases)
        extensive = "yes" if p.extensive else "no"
        cells = (f"`{p.name}`", f"`{p.key}`", aliases, shape, p.unit, p.sign, parity, extensive)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


# Equations


def equations_page(file: Path) -> str:
    """The index of equations: each next to the function that computes it."""
    lines = [
        "# Equations and the code that computes them",
        "",
        "A test makes sure that each function exists, and that its docstring or that of its module",
        "states the equation. Symbols are those of the code.",
        "",
    ]
    for section in yaml.safe_load(file.read_text(encoding="utf-8")):
        lines += [f"## {section['title']}", ""]
        for row in section["equations"]:
            lines += [f"**{row['name']}.** {row.get('text', '')}", "", "$$", row["tex"], "$$", ""]
            lines += [f"Code: `{row['code']}`.", ""]
    return "\n".join(lines)


def benchmarks_page(file: Path) -> str:
    """The tables of the benchmarks as they are, with links that hold from here."""
    text = file.read_text(encoding="utf-8")
    return re.sub(r"\]\((?!https?:|#)([^)]+)\)", r"](../benchmarks/\1)", text)


if __name__ == "__main__":
    sys.stdout.write("\n".join(markdown(sys.stdin.read())))
