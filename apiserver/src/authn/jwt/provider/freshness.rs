//! How long an answer may be kept, as its headers say to a cache that many share.

use http::HeaderMap;
use http::header::{CACHE_CONTROL, EXPIRES};
use jiff::{SignedDuration, Timestamp};

/// Until when an answer that came now is fresh; now, where it says nothing.
pub(super) fn until(headers: &HeaderMap, now: Timestamp) -> Timestamp {
    let directives: Vec<String> = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase())
        .collect();
    if directives.iter().any(|directive| matches!(directive.as_str(), "no-store" | "no-cache" | "private")) {
        return now;
    }
    let seconds = |name: &str| {
        let value =
            directives.iter().find_map(|directive| directive.strip_prefix(name)?.strip_prefix('='))?;
        value.trim_matches('"').parse::<u32>().ok()
    };
    match seconds("s-maxage").or_else(|| seconds("max-age")) {
        Some(seconds) => {
            now.checked_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX)
        }
        None => expires(headers).map_or(now, |at| at.max(now)),
    }
}

fn expires(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(EXPIRES)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text).ok().map(|at| at.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(pairs: &[(http::HeaderName, &str)]) -> i64 {
        let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value")));
        let now = Timestamp::from_second(784_111_000).expect("an instant");
        until(&headers.collect(), now).as_second() - now.as_second()
    }

    #[test]
    fn headers_say_how_long_keys_are_kept() {
        assert_eq!(seconds(&[]), 0);
        assert_eq!(seconds(&[(CACHE_CONTROL, "public, max-age=60, must-revalidate")]), 60);
        assert_eq!(seconds(&[(CACHE_CONTROL, "max-age=60, s-maxage=5")]), 5);
        assert_eq!(seconds(&[(CACHE_CONTROL, "no-store, max-age=60")]), 0);
        assert_eq!(seconds(&[(CACHE_CONTROL, "max-age=soon")]), 0);
        assert_eq!(seconds(&[(EXPIRES, "Sun, 06 Nov 1994 08:49:37 GMT")]), 777);
        assert_eq!(seconds(&[(EXPIRES, "0")]), 0);
    }
}
