//! A JSON web token: its parts, and what it says of issuer, audience and time.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use knarr_api::field::quote;
use serde::Deserialize;
use serde_json::Value;

use super::keys::Algorithm;
use super::mappings::{Claims, cannot_unmarshal, one_or_many};

/// Clocks of issuer and server may differ by this where a token is not valid yet.
const LEEWAY: SignedDuration = SignedDuration::from_mins(1);

const GOOGLE: &str = "https://accounts.google.com";
/// How Google sometimes calls itself.
const GOOGLE_BARE: &str = "accounts.google.com";

/// A token whose signature was not checked yet.
#[derive(Debug)]
pub struct Token<'a> {
    /// What was signed: header and payload as they came.
    pub signed: &'a [u8],
    pub signature: Vec<u8>,
    pub algorithm: Algorithm,
    /// Which key signed it; empty if it does not say.
    pub key_id: String,
    payload: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    alg: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Issued {
    #[serde(default)]
    iss: String,
}

/// Who the token says that it is from, which proves nothing; none for what is no token.
pub fn untrusted_issuer(token: &str) -> Option<String> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let Issued { iss } = serde_json::from_slice(&payload).ok()?;
    Some(if iss == GOOGLE_BARE { GOOGLE.to_owned() } else { iss })
}

impl<'a> Token<'a> {
    /// Takes a token apart. Only these algorithms count; that a token asks for another (or for `none`) is an error.
    pub fn parse(token: &'a str, allowed: &[Algorithm]) -> Result<Self, String> {
        let malformed = |why: &str| format!("oidc: malformed jwt: {why}");
        let (signed, signature) = token.rsplit_once('.').ok_or_else(|| malformed("no signature"))?;
        let (header, payload) = signed.split_once('.').ok_or_else(|| malformed("no payload"))?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|why| malformed(&why.to_string()));
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|why| malformed(&why.to_string()))?;
        if header.crit.is_some() {
            return Err(malformed("unsupported crit header"));
        }
        let named = Algorithm::named(&header.alg).filter(|algorithm| allowed.contains(algorithm));
        let algorithm = named.ok_or_else(|| {
            let expected: Vec<String> = allowed.iter().map(|algorithm| quote(algorithm.name())).collect();
            format!(
                "oidc: id token signed with unsupported algorithm, expected [{}] got {}",
                expected.join(" "),
                quote(&header.alg)
            )
        })?;
        let (payload, signature) = (decode(payload)?, decode(signature)?);
        Ok(Self { signed: signed.as_bytes(), signature, algorithm, key_id: header.kid, payload })
    }

    /// What the token says. Call it after the signature has been checked.
    ///
    /// Errors: it is for others, from others, or its time is over or has not come.
    pub fn claims(&self, issuer: &str, audiences: &[String], now: Timestamp) -> Result<Claims, String> {
        let unreadable = |why: String| format!("oidc: failed to unmarshal claims: {why}");
        let claims: Claims =
            serde_json::from_slice(&self.payload).map_err(|error| unreadable(error.to_string()))?;
        let issued_by = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        if issued_by != issuer && !(issuer == GOOGLE && issued_by == GOOGLE_BARE) {
            return Err(format!(
                "oidc: id token issued by a different provider, expected {} got {}",
                quote(issuer),
                quote(issued_by)
            ));
        }
        let claimed = claims.get("aud").map_or(Ok(Vec::new()), one_or_many).map_err(unreadable)?;
        let expires = time(&claims, "exp").map_err(unreadable)?.unwrap_or(Timestamp::MIN);
        let not_before = time(&claims, "nbf").map_err(unreadable)?;
        check_audience(audiences, &claimed)?;
        check_times(expires, not_before, now)?;
        Ok(claims)
    }
}

fn check_audience(wanted: &[String], claimed: &[String]) -> Result<(), String> {
    if claimed.iter().any(|audience| wanted.contains(audience)) {
        return Ok(());
    }
    let quoted = |texts: &[String]| texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(" ");
    let expected = match wanted {
        [one] => quote(one),
        many => {
            let mut many = many.to_vec();
            many.sort();
            format!("in [{}]", quoted(&many))
        }
    };
    Err(format!("oidc: expected audience {expected} got [{}]", quoted(claimed)))
}

fn check_times(expires: Timestamp, not_before: Option<Timestamp>, now: Timestamp) -> Result<(), String> {
    if expires < now {
        return Err(format!("oidc: token is expired (Token Expiry: {})", shown(expires)));
    }
    if let Some(not_before) = not_before
        && now.checked_add(LEEWAY).is_ok_and(|now| now < not_before)
    {
        return Err(format!(
            "oidc: current time {} before the nbf (not before) time: {}",
            shown(now),
            shown(not_before)
        ));
    }
    Ok(())
}

/// Seconds since the epoch, whole or not.
fn time(claims: &Claims, name: &str) -> Result<Option<Timestamp>, String> {
    let seconds = match claims.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        Some(other) => return Err(cannot_unmarshal(other, "json.Number")),
    };
    // What lies beyond the calendar is its end.
    let seconds = seconds.unwrap_or(i64::MAX);
    let beyond = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Ok(Some(Timestamp::from_second(seconds).unwrap_or(beyond)))
}

fn whole(seconds: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "fractions are meant to go, and the cast saturates")]
    seconds.is_finite().then_some(seconds as i64)
}

/// As Go prints an instant.
fn shown(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ALL: &[Algorithm] = Algorithm::ALL;

    fn token(header: &Value, payload: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{}", part(header), part(payload), URL_SAFE_NO_PAD.encode("signature"))
    }

    fn claims(payload: &Value, audiences: &[&str]) -> Result<Claims, String> {
        let audiences: Vec<String> = audiences.iter().map(|text| (*text).to_owned()).collect();
        let now = Timestamp::from_second(1_000).expect("an instant");
        let token = token(&json!({"alg": "RS256"}), payload);
        Token::parse(&token, ALL)?.claims("https://a", &audiences, now)
    }

    #[test]
    fn only_listed_algorithms_reach_a_check() {
        for algorithm in ["none", "HS256", "", "EdDSA"] {
            let token = token(&json!({"alg": algorithm}), &json!({}));
            let why = Token::parse(&token, &[Algorithm::Rs256]).expect_err("refused");
            assert_eq!(
                why,
                format!(
                    "oidc: id token signed with unsupported algorithm, expected [\"RS256\"] got {algorithm:?}"
                )
            );
        }
        for text in ["", "a", "a.b", "a.b.c", "!.!.!"] {
            assert!(Token::parse(text, ALL).is_err(), "{text}");
        }
        let critical = token(&json!({"alg": "RS256", "crit": ["exp"]}), &json!({}));
        assert!(Token::parse(&critical, ALL).is_err());
    }

    #[test]
    fn issuers_are_read_before_anything_is_believed() {
        let of = |payload: &Value| untrusted_issuer(&token(&json!({}), payload));
        assert_eq!(of(&json!({"iss": "https://a"})).as_deref(), Some("https://a"));
        assert_eq!(
            of(&json!({"iss": "accounts.google.com"})).as_deref(),
            Some("https://accounts.google.com")
        );
        assert_eq!(of(&json!({"iss": 1})), None);
        assert_eq!(untrusted_issuer("a.b"), None);
        assert_eq!(untrusted_issuer("abcdef.0123456789abcdef"), None);
    }

    #[test]
    fn tokens_of_others_and_of_other_times_are_refused() {
        let good = json!({"iss": "https://a", "aud": ["x", "y"], "exp": 1_000});
        assert!(claims(&good, &["y"]).is_ok());
        for (payload, why) in [
            (
                json!({"iss": "https://b", "aud": "y", "exp": 2_000}),
                "oidc: id token issued by a different provider, expected \"https://a\" got \"https://b\"",
            ),
            (
                json!({"iss": "https://a", "aud": "x", "exp": 2_000}),
                "oidc: expected audience \"y\" got [\"x\"]",
            ),
            (
                json!({"iss": "https://a", "aud": "y", "exp": 999.5}),
                "oidc: token is expired (Token Expiry: 1970-01-01 00:16:39 +0000 UTC)",
            ),
            (
                json!({"iss": "https://a", "aud": "y", "exp": 2_000, "nbf": 1_061}),
                "oidc: current time 1970-01-01 00:16:40 +0000 UTC before the nbf (not before) time: 1970-01-01 \
                 00:17:41 +0000 UTC",
            ),
            (
                json!({"iss": "https://a", "aud": {}, "exp": 2_000}),
                "oidc: failed to unmarshal claims: json: cannot unmarshal object into Go value of type string",
            ),
        ] {
            assert_eq!(claims(&payload, &["y"]).expect_err("refused"), why);
        }
        assert!(claims(&json!({"iss": "https://a", "aud": "y"}), &["y"]).is_err(), "a token must end");
        assert!(claims(&json!({"iss": "https://a", "aud": "y", "exp": 1e300}), &["y"]).is_ok());
        assert_eq!(
            claims(&json!({"iss": "https://a", "aud": "z", "exp": 2_000}), &["y", "x"]).expect_err("refused"),
            "oidc: expected audience in [\"x\" \"y\"] got [\"z\"]"
        );
    }
}
