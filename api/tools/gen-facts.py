#!/usr/bin/env python3
"""Turn the collected facts of the Kubernetes API into the tables that knarr-api embeds.

usage: gen-facts.py <directory with types.json, resources.json, fieldselectors.json, printcolumns.json>

Writes ../facts/*.jsonl next to this script. Every table is text, one record a line and sorted, so that a new
Kubernetes release is a readable diff, and so that the engine can find a record by its line and parse it on first use.
Facts only: upstream's sentences are never copied.
"""

import json
import pathlib
import sys

OUT = pathlib.Path(__file__).resolve().parent.parent / "facts"

# Keys of a field that the engine reads. `known` (constants of an open string type) and `pbname` are for people.
FIELD_KEYS = {
    "t": "t", "pb": "pb", "via": "via", "wrap": "wrap", "req": "req", "omit": "omit", "ptr": "ptr", "eptr": "eptr",
    "list": "list", "keys": "keys", "map": "map", "ps": "ps", "pmk": "pmk", "def": "def", "enum": "enum",
    "gate": "gate",
}
TYPE_KEYS = {"x": "x", "map": "map", "union": "union", "nopb": "nopb", "scalar": "scalar"}


def dump(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def write(name, lines):
    (OUT / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    print(f"{name}: {len(lines)} records, {(OUT / name).stat().st_size} bytes")


def proto(field):
    """[number, wire] with the repeated and map marks dropped: the field's own type already says so."""
    return field["pb"][:2]


def type_line(name, facts):
    """`full name TAB group/version/Kind or - TAB {type}`: the first two are found without parsing the third."""
    body = {new: facts[old] for old, new in TYPE_KEYS.items() if old in facts}
    if "oneOf" in facts:
        body["oneOf"] = [[wire[0], shape] for wire, shape in zip(facts["pbf"].values(), facts["oneOf"])]
    fields = []
    for field_name, field in facts.get("f", {}).items():
        row = {"n": field_name}
        row.update({new: field[old] for old, new in FIELD_KEYS.items() if old in field})
        if "pb" in row:
            row["pb"] = proto(field)
        fields.append(row)
    if fields:
        body["f"] = fields
    # An ObjectReference can be an object in Go, but never travels as one.
    is_kind = "gvk" in facts and not name.endswith(".ObjectReference")
    return "\t".join([name, "/".join(facts["gvk"]) if is_kind else "-", dump(body)])


def types(facts):
    for name in facts:
        if "\t" in name or "\n" in name:
            raise SystemExit(f"type name {name!r} cannot be a key of a line table")
    write("types.jsonl", [type_line(name, facts[name]) for name in sorted(facts)])


def resources(facts):
    write("groups.jsonl", [dump(group) for group in facts["groups"]])
    rows = []
    for resource in facts["resources"]:
        row = dict(resource)
        row["sub"] = [dict(sub, name=name) for name, sub in sorted(resource.get("sub", {}).items())]
        row.pop("life", None)
        rows.append(dump(row))
    write("resources.jsonl", rows)


def field_selectors(facts):
    rows = []
    for row in facts["resources"]:
        out = {k: row[k] for k in ("group", "version", "resource", "fields")}
        # Aliases of listed fields are upstream's internal names; only further accepted names matter here.
        alias = {k: v for k, v in row.get("alias", {}).items() if "*" not in k and k not in row["fields"]}
        if alias:
            out["alias"] = alias
        rows.append(dump(out))
    write("fieldselectors.jsonl", rows)


def print_columns(facts):
    write("printcolumns.jsonl", [dump({k: row[k] for k in ("group", "kind", "columns")}) for row in facts["kinds"]])


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    source = pathlib.Path(sys.argv[1])
    OUT.mkdir(exist_ok=True)
    for name, convert in (("types", types), ("resources", resources), ("fieldselectors", field_selectors),
                          ("printcolumns", print_columns)):
        convert(json.loads((source / f"{name}.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
