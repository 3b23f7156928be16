#!/usr/bin/env python3
"""Writes configs/reference.md, the list of all config fields, from configs/run.proto: its comments,
types, defaults and enum values. Deprecated fields, which are former names, are left out.

    make_config_reference.py            # writes the file
    make_config_reference.py --check    # exits with 1 if the file is not what would be written

The comment above a field ends with a line `Unit: U. Range: R.` (or only one of the two); every
number needs a range. The anchor of a field is its path: configs/reference.md#pool.top_k.
"""
import pathlib
import re
import sys
from dataclasses import dataclass, field

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
NUMBERS = {"int32", "int64", "uint64", "float", "double"}

COMMENT = re.compile(r"\s*//\s?(.*)")
BLOCK = re.compile(r"\s*(message|enum|extend) ([\w.]+) \{")
END = re.compile(r"\s*\}")
FIELD = re.compile(r"\s*(optional|repeated) (\w+) (\w+) = \d+\s*(?:\[(.*)\])?;")
VALUE = re.compile(r"\s*(\w+) = \d+;")
DEFAULT = re.compile(r"default = (\"[^\"]*\"|[^,\]]+)")

TAIL = re.compile(
    r"(?P<meaning>.*?)(?: Unit: (?P<unit>\w+)\.)?(?: Range: (?P<range>[^:]+)\.)?")

HEAD = """\
# Config reference

<!-- Written by tools/make_config_reference.py from run.proto. Do not edit. -->

A config is a textproto of the message `Run` in [run.proto](run.proto): `model {{ layers: 4 }}`. On
the command line, `--set model.layers=4` overrides a field by its path. `unipool config show FILE`
prints the resolved config with every field. A field without a default is required if its meaning
says so. Former names of fields still load, with a warning that names the new one.

Sections: {sections}.
"""


class ProtoError(Exception):
    pass


@dataclass
class Field:
    name: str
    type: str
    is_list: bool
    options: str
    comment: str

    def default(self):
        found = DEFAULT.search(self.options)
        return found.group(1) if found else None


@dataclass
class Block:
    """A message with its fields, or an enum with its values as fields."""
    kind: str
    name: str
    comment: str = ""
    fields: list = field(default_factory=list)
    blocks: dict = field(default_factory=dict)


def parse(text):
    """The file as a block whose blocks are its messages. Reads the style of run.proto only: a
    declaration per line, comments above it; anything else is a ProtoError."""
    root = Block("file", "")
    stack, comment = [root], []
    for number, line in enumerate(text.splitlines(), 1):
        if match := COMMENT.fullmatch(line):
            comment.append(match.group(1))
            continue
        said, comment = " ".join(comment), []
        if match := BLOCK.fullmatch(line):
            block = Block(match.group(1), match.group(2), said)
            stack[-1].blocks[block.name] = block
            stack.append(block)
        elif END.fullmatch(line):
            stack.pop()
        elif match := FIELD.fullmatch(line):
            label, kind, name, options = match.groups(default="")
            stack[-1].fields.append(Field(name, kind, label == "repeated", options, said))
        elif (match := VALUE.fullmatch(line)) and stack[-1].kind == "enum":
            stack[-1].fields.append(Field(match.group(1), "", False, "", said))
        elif line.strip() and not re.match(r"(syntax|package|import) ", line):
            raise ProtoError(f"line {number}: cannot be read: {line.strip()}")
    return root


def split_comment(text):
    """(meaning, unit, range); the last two are "" if the comment lacks them."""
    found = TAIL.fullmatch(text)
    return found["meaning"], found["unit"] or "", found["range"] or ""


def cell(text):
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def field_row(path, entry, message, root):
    meaning, unit, values = split_comment(entry.comment)
    if not meaning:
        raise ProtoError(f"{path}: has no comment")
    if entry.type in NUMBERS and not values:
        raise ProtoError(f"{path}: its comment has no line 'Range: ...'")
    default = entry.default()
    kind = entry.type
    enum = message.blocks.get(entry.type) or root.blocks.get(entry.type)
    if enum is not None and enum.kind == "enum":
        kind = "enum"
        values = ", ".join(f"`{value.name}`" for value in enum.fields)
        for value in enum.fields:
            if not value.comment:
                raise ProtoError(f"{path}: its value {value.name} has no comment")
            meaning += f"<br>`{value.name}`: {value.comment}"
    shown = "" if default is None else f"`{default}`"
    cells = [f'<a id="{path}"></a>`{path}`', kind, shown, unit, values, meaning]
    return "| " + " | ".join(map(cell, cells)) + " |"


def sections_of(message, path, root):
    """[(path, message, rows, is_list)] of a message and the messages inside of it."""
    rows, inner = [], []
    prefix = path + "." if path else ""
    for entry in message.fields:
        if "deprecated = true" in entry.options:
            continue
        block = message.blocks.get(entry.type) or root.blocks.get(entry.type)
        if block is None or block.kind == "enum":
            rows.append(field_row(prefix + entry.name, entry, message, root))
            continue
        found = sections_of(block, prefix + entry.name, root)
        if entry.comment:
            found[0][1].comment = f"{entry.comment} {block.comment}".strip()
        inner += [(at, what, lines, is_list or entry.is_list)
                  for at, what, lines, is_list in found]
    return [(path, message, rows, False)] + inner


def reference(text):
    root = parse(text)
    sections = sections_of(root.blocks["Run"], "", root)
    links = ", ".join(f"[{path or 'run'}](#{path or 'run'})" for path, *_ in sections)
    parts = [HEAD.format(sections=links)]
    for path, message, rows, is_list in sections:
        title = f"`{path}`" if path else "Fields of the run itself"
        anchor = path or "run"
        words = message.comment if path else ""
        if is_list:
            words += f" The field is a list: write `{path.replace('.', ' { ')} {{ ... }}` once per "
            words += "element, in a config file only."
        parts.append(f'## <a id="{anchor}"></a>{title}\n')
        if words:
            parts.append(words.strip() + "\n")
        parts.append("| field | type | default | unit | range | meaning |")
        parts[-1] += "\n|---|---|---|---|---|---|"
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def main(arguments):
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    source, target = CONFIGS / "run.proto", CONFIGS / "reference.md"
    try:
        text = reference(source.read_text())
    except ProtoError as error:
        print(f"{source}: {error}")
        return 1
    if not arguments:
        target.write_text(text)
    elif not target.exists() or target.read_text() != text:
        print(f"{target}: is not current; run tools/make_config_reference.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
