//! The formats of strings that schemas may ask for.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Form;

/// Whether a format is checked for values of a form. Unknown ones are ignored, as upstream ignores them.
pub(super) fn is_known(form: Option<Form>, format: &str) -> bool {
    matches!(form, None | Some(Form::String)) && check(format).is_some()
}

/// Whether a text has the format; true for unknown formats.
pub(super) fn matches(format: &str, text: &str) -> bool {
    check(format).is_none_or(|check| check(text))
}

/// Hyphens in names of formats are ignored.
fn check(format: &str) -> Option<fn(&str) -> bool> {
    Some(match format.replace('-', "").as_str() {
        "ipv4" => |text| text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => |text| text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr,
        "mac" => is_mac,
        "uuid" => |text| is_uuid(text, None),
        "uuid3" => |text| is_uuid(text, Some('3')),
        "uuid4" => |text| is_uuid(text, Some('4')),
        "uuid5" => |text| is_uuid(text, Some('5')),
        "byte" => |text| crate::decode::canonical::base64(text),
        "date" => |text| crate::decode::canonical::instant(&format!("{text}T00:00:00Z")).is_some(),
        "datetime" => |text| crate::decode::canonical::instant(&text.to_uppercase()).is_some(),
        "duration" => |text| crate::duration::parse(&text.replace(' ', "")).is_ok(),
        "email" => is_email,
        "hostname" => is_hostname,
        "uri" => is_uri,
        "hexcolor" => is_hex_color,
        "password" => |_| true,
        _ => return None,
    })
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let Ok(length) = length.parse::<u8>() else { return false };
    match address.parse() {
        Ok(std::net::IpAddr::V4(_)) => length <= 32,
        Ok(std::net::IpAddr::V6(_)) => length <= 128,
        Err(_) => false,
    }
}

fn is_mac(text: &str) -> bool {
    let groups = |separator: char, width: usize| {
        let parts: Vec<&str> = text.split(separator).collect();
        let bytes = parts.len() * width / 2;
        matches!(bytes, 6 | 8 | 20)
            && parts
                .iter()
                .all(|part| part.len() == width && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    groups(':', 2) || groups('-', 2) || groups('.', 4)
}

fn is_uuid(text: &str, version: Option<char>) -> bool {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let plain = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hyphens =
        text.match_indices('-').all(|(at, _)| matches!(at, 8 | 12 | 13 | 16 | 17 | 18 | 20 | 21 | 22 | 23));
    let at = |index: usize| digits.chars().nth(index);
    let variant = match version {
        Some('4' | '5') => matches!(at(16), Some('8' | '9' | 'a' | 'b' | 'A' | 'B')),
        _ => true,
    };
    plain && hyphens && variant && version.is_none_or(|version| at(12) == Some(version))
}

fn is_email(text: &str) -> bool {
    let address = text.trim_end_matches('>').rsplit('<').next().unwrap_or_default();
    address.rsplit_once('@').is_some_and(|(user, host)| {
        !user.is_empty() && !host.is_empty() && !address.contains(char::is_whitespace)
    })
}

fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let text = text.strip_suffix('.').unwrap_or(text);
    text.len() <= 255 && text.split('.').all(label)
}

fn is_uri(text: &str) -> bool {
    let scheme = text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    });
    (scheme || text.starts_with('/')) && !text.contains(|c: char| c.is_ascii_control() || c == ' ')
}

fn is_hex_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or(text);
    matches!(digits.len(), 3 | 6) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_accept_what_they_should_and_nothing_else() {
        for (format, good, bad) in [
            ("ipv4", "10.0.0.1", "10.0.0"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "00:1a:2B:3c:4d:5e", "00:1a:2B"),
            ("uuid", "01234567-89ab-cdef-0123-456789abcdef", "0123"),
            ("uuid4", "01234567-89ab-4def-8123-456789abcdef", "01234567-89ab-5def-8123-456789abcdef"),
            ("byte", "YWJj", "a?"),
            ("date", "2020-02-29", "2021-02-29"),
            ("date-time", "2020-02-29T01:02:03.5Z", "2020-02-29"),
            ("duration", "1h 5s", "five"),
            ("email", "a@b.c", "a"),
            ("hostname", "a-b.example", "-a"),
            ("uri", "https://a/b", "no uri"),
            ("hexcolor", "#fff", "#ff"),
        ] {
            assert!(is_known(Some(Form::String), format), "{format}");
            assert!(matches(format, good) && !matches(format, bad), "{format}");
        }
        assert!(!is_known(Some(Form::String), "nonsense") && !is_known(Some(Form::Integer), "ipv4"));
    }
}
