"""What is left of a run: a table, JUnit, and the story of each failed spec."""

import collections
import datetime
import json
import re
import xml.etree.ElementTree as xml

PASSED, SKIPPED = "passed", "skipped"
LONGEST_NAME = 100
SLOWEST = 10
SHOWN_LINES, SHOWN_WIDTH = 6, 200


def name(result):
    texts = [*(result.get("ContainerHierarchyTexts") or []), result["LeafNodeText"]]
    return " ".join(text for text in texts if text) or result["LeafNodeType"]


def sig(result):
    found = re.search(r"\[sig-([a-z-]+)\]", name(result))
    return found.group(1) if found else "other"


def seconds(result):
    return result["RunTime"] / 1e9


def is_failed(result):
    return result["State"] not in (PASSED, SKIPPED)


def message(result):
    return (result.get("Failure") or {}).get("Message", "")


def place(result):
    location = (result.get("Failure") or {}).get("Location") or {}
    return f"{location.get('FileName', '')}:{location.get('LineNumber', '')}"


def progress(result):
    print(f"{result['State']:8} {seconds(result):7.1f} s  {name(result)}", flush=True)
    if is_failed(result):
        for line in [place(result), *message(result).strip().splitlines()[:SHOWN_LINES]]:
            print(f"    {line[:SHOWN_WIDTH]}", flush=True)


def known(path):
    """The specs of a file of known failures: one a line, what follows a tab is its cause."""
    if path is None:
        return set()
    lines = (line.split("\t")[0].strip() for line in path.read_text().splitlines())
    return {line for line in lines if line and not line.startswith("#")}


def table(results, expected, finished):
    """Prints the table per SIG; gives the failures that are not known."""
    rows = collections.defaultdict(lambda: [0, 0, 0, 0.0])
    for result in results:
        row = rows[sig(result)]
        row[0 if result["State"] == PASSED else 2 if result["State"] == SKIPPED else 1] += 1
        row[3] += seconds(result)
    rows["total"] = [sum(column) for column in zip(*rows.values())] or [0, 0, 0, 0.0]
    print(f"\n{'SIG':20} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>8}")
    for title, (passed, failed, skipped, time) in rows.items():
        print(f"{title:20} {passed:7} {failed:7} {skipped:8} {time:8.0f}")
    failed = {name(result) for result in results if is_failed(result)}
    passed = {name(result) for result in results if result["State"] == PASSED}
    listing("failed, and not known to fail", failed - expected)
    listing("known to fail, and did", failed & expected)
    listing("known to fail, but passed: take them off the list", passed & expected)
    slow = sorted(results, key=seconds, reverse=True)[:SLOWEST]
    listing("slowest", [f"{seconds(result):6.1f} s  {name(result)}" for result in slow], ordered=True)
    if not finished:
        print("\nthe time was over before all specs had run")
    return failed - expected


def listing(title, lines, ordered=False):
    if lines:
        print(f"\n{title}:")
        for line in lines if ordered else sorted(lines):
            print(f"  {line}")


def summary(results, path):
    entries = [{"spec": name(r), "sig": sig(r), "state": r["State"], "seconds": round(seconds(r), 3),
                "message": message(r)} for r in results]
    path.write_text(json.dumps(entries, indent=1) + "\n")


def junit(results, path):
    failed = sum(map(is_failed, results))
    skipped = sum(result["State"] == SKIPPED for result in results)
    suite = xml.Element("testsuite", name="Kubernetes e2e suite", tests=str(len(results)), failures=str(failed),
                        skipped=str(skipped), time=f"{sum(map(seconds, results)):.3f}")
    for result in results:
        case = xml.SubElement(suite, "testcase", name=name(result), classname=f"sig-{sig(result)}",
                              time=f"{seconds(result):.3f}")
        if result["State"] == SKIPPED:
            xml.SubElement(case, "skipped", message=printable(message(result)))
        elif is_failed(result):
            failure = xml.SubElement(case, "failure", message=printable(message(result))[:1000])
            failure.text = printable(story(result))
    xml.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def printable(text):
    """XML has no place for most control characters."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)


def story(result):
    return "\n".join([
        name(result),
        f"{result['State']} after {seconds(result):.1f} s, {result['StartTime']} to {result['EndTime']}",
        place(result),
        message(result),
        "",
        result.get("CapturedGinkgoWriterOutput") or "",
        result.get("CapturedStdOutErr") or "",
    ])


def failures(results, output, logs):
    """A directory for each failed spec: its story, and what every log says of its time."""
    for number, result in enumerate(filter(is_failed, results), 1):
        slug = re.sub(r"[^A-Za-z0-9]+", "-", name(result))[:LONGEST_NAME].strip("-")
        directory = output / "failed" / f"{number:03}-{slug}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "spec.txt").write_text(story(result))
        begin, end = moment(result["StartTime"]), moment(result["EndTime"])
        for title, log in logs.items():
            if log.exists():
                (directory / title).write_text("".join(lines_between(log, begin, end)))


def moment(text):
    """Go's times have nine digits of a second and any zone."""
    whole, fraction, zone = re.fullmatch(r"([^.]+?)(\.\d+)?(Z|[+-]\d\d:\d\d)", text).groups()
    parsed = datetime.datetime.fromisoformat(whole + zone.replace("Z", "+00:00"))
    return parsed.timestamp() + float(fraction or 0)


def lines_between(log, begin, end):
    """Lines with a time between the two, and those without one that follow such a line."""
    inside = False
    with open(log, errors="replace") as lines:
        for line in lines:
            first = line.split(" ", 1)[0]
            if re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$", first):
                inside = begin - 1 <= moment(first) <= end + 1
            if inside:
                yield line
