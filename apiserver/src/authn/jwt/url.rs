//! Addresses of issuers and their documents, taken apart as Go does it.

use std::fmt;

const HTTPS_PORT: u16 = 443;

/// The parts of an address that decide whether it can be used, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    text: String,
    /// In lower case; empty where there is none.
    pub scheme: String,
    /// Whether it names a user or password.
    pub user: bool,
    /// As written, with the port.
    pub authority: String,
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
    /// What is asked for: path and query.
    pub target: String,
    pub query: bool,
    pub fragment: bool,
}

impl Url {
    /// Errors: why this is no address, in the words of Go's parser.
    pub fn parse(text: &str) -> Result<Self, String> {
        let failed = |why: &str| format!("parse {}: {why}", knarr_api::field::quote(text));
        if text.bytes().any(|b| b.is_ascii_control()) {
            return Err(failed("net/url: invalid control character in URL"));
        }
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (scheme, rest) = match scheme_end(rest) {
            Some(0) => return Err(failed("missing protocol scheme")),
            Some(end) => (rest[..end].to_ascii_lowercase(), &rest[end + 1..]),
            None => (String::new(), rest),
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match path.strip_prefix("//") {
            Some(place) => place.split_at(place.find('/').unwrap_or(place.len())),
            None => ("", path),
        };
        let (user, authority) = match authority.rsplit_once('@') {
            Some((_, authority)) => (true, authority),
            None => (false, authority),
        };
        let (host, port) = host_and_port(authority).map_err(|why| failed(&why))?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        let question = if query.is_empty() { "" } else { "?" };
        Ok(Self {
            text: text.to_owned(),
            scheme,
            user,
            authority: authority.to_owned(),
            host: host.to_owned(),
            port,
            target: format!("{slash}{path}{question}{query}"),
            query: !query.is_empty(),
            fragment: !fragment.is_empty(),
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Where the scheme ends; none where the text does not begin with one.
fn scheme_end(text: &str) -> Option<usize> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.'))?;
    let colon = text[end..].starts_with(':');
    (colon && (end == 0 || text.starts_with(|c: char| c.is_ascii_alphabetic()))).then_some(end)
}

fn host_and_port(authority: &str) -> Result<(&str, u16), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("missing ']' in host")?;
            (host, port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let number = match port.strip_prefix(':') {
        None if port.is_empty() => Some(HTTPS_PORT),
        Some("") => Some(HTTPS_PORT),
        Some(digits) => digits.parse().ok(),
        None => None,
    };
    let number =
        number.ok_or_else(|| format!("invalid port {} after host", knarr_api::field::quote(port)))?;
    Ok((host, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let url = Url::parse("https://issuer.example.com:8443/a/b").expect("an address");
        assert_eq!((url.scheme.as_str(), url.host.as_str(), url.port), ("https", "issuer.example.com", 8443));
        assert_eq!((url.target.as_str(), url.authority.as_str()), ("/a/b", "issuer.example.com:8443"));
        let url = Url::parse("HTTPS://u:p@[::1]?q#f").expect("an address");
        assert_eq!((url.scheme.as_str(), url.host.as_str(), url.port), ("https", "::1", 443));
        assert!(url.user && url.query && url.fragment);
        assert_eq!(url.target, "/?q");
        assert_eq!(Url::parse("issuer").expect("a path").scheme, "");
    }

    #[test]
    fn what_is_no_address_is_told_as_go_does() {
        for (text, why) in [
            ("https://a:b", "invalid port \":b\" after host"),
            ("://a", "missing protocol scheme"),
            ("https://[::1", "missing ']' in host"),
        ] {
            assert_eq!(Url::parse(text), Err(format!("parse {text:?}: {why}")));
        }
        assert!(Url::parse("https://a\n").is_err());
    }
}
