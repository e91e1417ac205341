#!/usr/bin/env python3
"""Collect the Go names that upstream's decoding errors mention and that the shape of a field does not tell.

usage: gen-go-types.py <kubernetes source tree>

`json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy` names the
named string type of the field, and paths through embedded structs name the embedded struct. Writes
../facts/gotypes.jsonl: `full type name TAB {"t":{field: Go type},"e":{field: [embedded structs, outermost first]}}`.
"""

import json
import pathlib
import re
import sys

OUT = pathlib.Path(__file__).resolve().parent.parent / "facts"
BUILTIN = {"string", "bool", "int", "int32", "int64", "float64", "byte", "interface{}"}
FIELD = re.compile(r'^\t(\w+)\s+(\S+(?: \S+)*?)\s+`[^`]*json:"([^",]+)[^`]*`')
EMBEDDED = re.compile(r'^\t([\w.]+)\s+`[^`]*json:",inline[^`]*`')
IMPORT = re.compile(r'^\s*(?:(\w+) )?"([\w./-]+)"$', re.M)


class Package:
    """The structs of one Go package: {struct: ([(json name, Go type)], [embedded type])}."""

    def __init__(self, directory):
        self.name = directory.name
        self.structs = {}
        for path in sorted(directory.glob("*.go")):
            if path.name.endswith("_test.go") or path.name.startswith("zz_generated"):
                continue
            self.read(path.read_text(encoding="utf-8"))

    def read(self, text):
        imports = {(alias or path.rsplit("/", 1)[-1]): path for alias, path in IMPORT.findall(text)}
        for match in re.finditer(r"^type (\w+) struct \{\n(.*?)^\}", text, re.M | re.S):
            fields, embedded = [], []
            for line in match.group(2).split("\n"):
                if found := FIELD.match(line):
                    fields.append((found.group(3), self.spell(found.group(2), imports)))
                elif found := EMBEDDED.match(line):
                    embedded.append(found.group(1))
            self.structs[match.group(1)] = (fields, embedded, imports)

    def spell(self, go, imports):
        """The type as Go's reflection prints it: packages by their own names, not by the names they are imported as."""
        go = go.lstrip("*")
        if go.startswith("[]"):
            return "[]" + ("uint8" if go == "[]byte" else self.spell(go[2:], imports))
        if found := re.match(r"map\[([^\]]+)\](.*)", go):
            return f"map[{self.spell(found.group(1), imports)}]{self.spell(found.group(2), imports)}"
        if go in BUILTIN:
            return go
        if "." in go:
            alias, name = go.split(".", 1)
            return imports.get(alias, alias).rsplit("/", 1)[-1] + "." + name
        return f"{self.name}.{go}"


def packages(tree):
    """(OpenAPI prefix of the package's types, import path, package)."""
    for root, prefix in (("k8s.io/api", "io.k8s.api"), ("k8s.io/apimachinery", "io.k8s.apimachinery"),
                         ("k8s.io/apiextensions-apiserver", "io.k8s.apiextensions-apiserver"),
                         ("k8s.io/kube-aggregator", "io.k8s.kube-aggregator")):
        base = tree / "staging/src" / root
        for directory in sorted({path.parent for path in base.glob("**/types*.go")}):
            relative = directory.relative_to(base)
            yield ".".join([prefix, *relative.parts]), "/".join([root, *relative.parts]), Package(directory)


def collect(package, struct, by_path, path=()):
    """(json name, Go type, embedded structs on the way) of all fields of a struct, embedded ones included."""
    fields, embedded, imports = package.structs.get(struct, ([], [], {}))
    for name, go in fields:
        yield name, go, path
    for go in embedded:
        alias, _, name = go.rpartition(".")
        owner = by_path.get(imports.get(alias)) if alias else package
        if owner and name != "TypeMeta":
            yield from collect(owner, name, by_path, (*path, name))


def derived(shape):
    """The Go type that the engine itself derives from a shape in types.jsonl."""
    if shape[:2] in ("[]", "{}"):
        return ("[]" if shape[0] == "[" else "map[string]") + derived(shape[2:])
    if shape.startswith("&"):
        return ".".join(shape.rsplit(".", 2)[1:])
    return {"boolean": "bool", "double": "float64", "byte": "[]uint8", "any": "interface {}"}.get(shape, shape)


def known():
    """{full type name: {field: derived Go type}} of the type table."""
    table = {}
    for line in (OUT / "types.jsonl").read_text(encoding="utf-8").splitlines():
        name, _, body = line.split("\t")
        table[name] = {field["n"]: derived(field["t"]) for field in json.loads(body).get("f", [])}
    return table


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    found = list(packages(pathlib.Path(sys.argv[1])))
    by_path = {path: package for _, path, package in found}
    table, lines = known(), []
    for prefix, _, package in found:
        for struct in package.structs:
            types, embeds = {}, {}
            for name, go, path in collect(package, struct, by_path):
                expected = table.get(f"{prefix}.{struct}", {}).get(name)
                if expected is None:
                    continue
                if go != expected:
                    types[name] = go
                if path:
                    embeds[name] = list(path)
            row = {key: value for key, value in (("t", types), ("e", embeds)) if value}
            if row:
                lines.append(f"{prefix}.{struct}\t{json.dumps(row, separators=(',', ':'))}")
    (OUT / "gotypes.jsonl").write_text("".join(line + "\n" for line in sorted(set(lines))), encoding="utf-8")
    print(f"gotypes.jsonl: {len(lines)} records")


if __name__ == "__main__":
    main()
