#!/usr/bin/env python3
"""Collect the descriptions that `kubectl explain` shows from the k8s-openapi crate.

usage: gen-descriptions.py <source of k8s-openapi>/src/v1_37

Writes ../facts/descriptions.jsonl.z: deflated lines `full type name TAB {"": type, field: text, ...}`, one for every
type of types.jsonl that the crate describes. They are kept compressed, in the binary too, and unpacked only while a
document is built.
"""

import json
import pathlib
import re
import sys
import zlib

OUT = pathlib.Path(__file__).resolve().parent.parent / "facts"
STRING = r'"((?:[^"\\]|\\.)*)"'
NAME = re.compile(rf"fn schema_name\(\).*?\n\s*{STRING}\.into\(\)")
TOP = re.compile(rf'^            "description": {STRING},', re.M)
PROPERTY = re.compile(rf'^                {STRING}: (?:\{{|\(\{{|__gen)', re.M)
PLAIN = re.compile(rf'^                    "description": {STRING},', re.M)
INSERTED = re.compile(rf'^                    schema_obj\.ensure_object\(\)\.insert\("description"\.into\(\), {STRING}\.into\(\)\);', re.M)


def text(literal):
    """The value of a Rust string literal, whose escapes are those of JSON but for \\u{..} and \\'."""
    literal = re.sub(r"\\u\{([0-9a-f]+)\}", lambda m: chr(int(m.group(1), 16)), literal)
    return json.loads('"' + literal.replace("\\'", "'") + '"')


def describe(body):
    found = {}
    if top := TOP.search(body):
        found[""] = text(top.group(1))
    properties = list(PROPERTY.finditer(body))
    for this, following in zip(properties, [*properties[1:], None]):
        part = body[this.start():following.start() if following else len(body)]
        description = PLAIN.search(part) or INSERTED.search(part)
        if description:
            found[text(this.group(1))] = text(description.group(1))
    return found


def add_lists(table, wanted):
    """The crate has one generic list; upstream's lists are all described alike."""
    sample = table["io.k8s.api.core.v1.ConfigMap"]
    for name in wanted:
        item = name.removesuffix("List")
        if name not in table and item != name and item in table:
            kind = item.rsplit(".", 1)[1]
            table[name] = {
                "": f"{kind}List is a list of {kind}.",
                "apiVersion": sample["apiVersion"], "items": f"List of {kind}.", "kind": sample["kind"],
                "metadata": "Standard list metadata.",
            }


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    wanted = {line.split("\t")[0] for line in (OUT / "types.jsonl").read_text(encoding="utf-8").splitlines()}
    table = {}
    for path in pathlib.Path(sys.argv[1]).rglob("*.rs"):
        source = path.read_text(encoding="utf-8")
        names = list(NAME.finditer(source))
        for this, following in zip(names, [*names[1:], None]):
            name = this.group(1)
            if name in wanted:
                table[name] = describe(source[this.end():following.start() if following else len(source)])
    add_lists(table, wanted)
    lines = "".join(f"{name}\t{json.dumps(table[name], separators=(',', ':'), ensure_ascii=False)}\n"
                    for name in sorted(table))
    packed = zlib.compress(lines.encode(), 9)
    (OUT / "descriptions.jsonl.z").write_bytes(packed)
    missing = sorted(wanted - set(table))
    print(f"descriptions: {len(table)} types, {len(lines)} bytes, {len(packed)} packed, {len(missing)} types without")


if __name__ == "__main__":
    main()
