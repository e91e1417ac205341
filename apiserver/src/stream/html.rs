//! Finds links in HTML and changes nothing else.

/// Which attributes of which tags are links.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];
/// Tags whose content is text, whatever it looks like.
const RAW: [&str; 7] = ["script", "style", "textarea", "title", "iframe", "noembed", "xmp"];

/// The page with every link replaced by what `link` makes of it. Bytes that are no link come out as they went in.
pub(super) fn rewrite(page: &[u8], link: impl Fn(&str) -> String) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.len());
    let mut at = 0;
    while let Some(open) = find(page, at, b"<") {
        out.extend_from_slice(&page[at..open]);
        let end = if page[open..].starts_with(b"<!--") {
            find(page, open + 4, b"-->").map_or(page.len(), |end| end + 3)
        } else if page.get(open + 1).is_some_and(u8::is_ascii_alphabetic) {
            tag(page, open, &link, &mut out)
        } else {
            open + 1
        };
        // What `tag` wrote is already out.
        if !page.get(open + 1).is_some_and(u8::is_ascii_alphabetic) {
            out.extend_from_slice(&page[open..end]);
        }
        at = end;
    }
    out.extend_from_slice(&page[at..]);
    out
}

/// Writes one opening tag, and the content behind it if that is raw text; returns where it ends.
fn tag(page: &[u8], open: usize, link: &impl Fn(&str) -> String, out: &mut Vec<u8>) -> usize {
    let name_end = skip(page, open + 1, |b| !b.is_ascii_whitespace() && b != b'>' && b != b'/');
    let name = String::from_utf8_lossy(&page[open + 1..name_end]).to_ascii_lowercase();
    let links = LINKS.iter().find(|(tag, _)| *tag == name).map_or(&[][..], |(_, links)| links);
    out.extend_from_slice(&page[open..name_end]);
    let mut at = name_end;
    while at < page.len() && page[at] != b'>' {
        let start = skip(page, at, |b| b.is_ascii_whitespace() || b == b'/');
        out.extend_from_slice(&page[at..start]);
        at = match page.get(start) {
            None | Some(b'>') => start,
            Some(_) => attribute(page, start, links, link, out),
        };
    }
    if at < page.len() {
        out.push(b'>');
        at += 1;
    }
    if !RAW.contains(&name.as_str()) {
        return at;
    }
    let end = end_of_raw(page, at, &name);
    out.extend_from_slice(&page[at..end]);
    end
}

/// Writes one attribute and returns where it ends. Always moves on.
fn attribute(
    page: &[u8],
    start: usize,
    links: &[&str],
    link: &impl Fn(&str) -> String,
    out: &mut Vec<u8>,
) -> usize {
    let name_end =
        skip(page, start, |b| !b.is_ascii_whitespace() && !matches!(b, b'=' | b'>' | b'/')).max(start + 1);
    let equals = skip(page, name_end, |b| b.is_ascii_whitespace());
    if page.get(equals) != Some(&b'=') {
        out.extend_from_slice(&page[start..name_end]);
        return name_end;
    }
    let value = skip(page, equals + 1, |b| b.is_ascii_whitespace());
    let (from, to, end) = match page.get(value) {
        Some(quote @ (b'"' | b'\'')) => {
            let close = find(page, value + 1, &[*quote]).unwrap_or(page.len());
            (value + 1, close, (close + 1).min(page.len()))
        }
        _ => {
            let close = skip(page, value, |b| !b.is_ascii_whitespace() && b != b'>');
            (value, close, close)
        }
    };
    let name = String::from_utf8_lossy(&page[start..name_end]).to_ascii_lowercase();
    out.extend_from_slice(&page[start..from]);
    match std::str::from_utf8(&page[from..to]) {
        Ok(text) if links.contains(&name.as_str()) => out.extend_from_slice(link(text).as_bytes()),
        _ => out.extend_from_slice(&page[from..to]),
    }
    out.extend_from_slice(&page[to..end]);
    end
}

/// Where raw text ends: at its closing tag.
fn end_of_raw(page: &[u8], from: usize, name: &str) -> usize {
    let mut at = from;
    while let Some(close) = find(page, at, b"</") {
        let found = page.get(close + 2..close + 2 + name.len());
        if found.is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes())) {
            return close;
        }
        at = close + 2;
    }
    page.len()
}

fn find(page: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    page.get(from..)?.windows(what.len()).position(|window| window == what).map(|at| from + at)
}

fn skip(page: &[u8], from: usize, while_: impl Fn(u8) -> bool) -> usize {
    page[from..].iter().position(|byte| !while_(*byte)).map_or(page.len(), |at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(page: &str) -> String {
        String::from_utf8(rewrite(page.as_bytes(), |link| format!("P{link}"))).unwrap()
    }

    #[test]
    fn links_are_found_and_the_rest_stays() {
        let table = [
            (r#"<a class=x href="/a">b</a>"#, r#"<a class=x href="P/a">b</a>"#),
            ("<A HREF='/a' data-href='/b'>", "<A HREF='P/a' data-href='/b'>"),
            ("<img src=/a.png/>", "<img src=P/a.png/>"),
            ("<!-- <a href=\"/a\"> -->", "<!-- <a href=\"/a\"> -->"),
            (
                "<script src=\"/s\">\"<a href='/x'>\"</script><a href=/y>",
                "<script src=\"P/s\">\"<a href='/x'>\"</script><a href=P/y>",
            ),
            ("<p href=\"/a\">1 < 2</p>", "<p href=\"/a\">1 < 2</p>"),
        ];
        for (page, expected) in table {
            assert_eq!(marked(page), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn without_changed_links_every_page_comes_out_as_it_went_in(
            page in "[ <>/=\"'!a-hA-H-]{0,60}"
        ) {
            let out = rewrite(page.as_bytes(), str::to_owned);
            proptest::prop_assert_eq!(out, page.as_bytes());
        }
    }
}
