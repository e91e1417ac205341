//! Quantities as numbers: thousandths and whole units, rounded up as upstream rounds.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub type List = BTreeMap<String, Quantity>;

const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// The quantity times a thousand, rounded up; 0 for what does not parse (the API server lets no such thing in).
pub fn milli(quantity: &Quantity) -> i64 {
    scaled(&quantity.0, 3).unwrap_or(0)
}

/// The quantity in whole units, rounded up.
pub fn value(quantity: &Quantity) -> i64 {
    scaled(&quantity.0, 0).unwrap_or(0)
}

/// `text` times ten to the power of `exponent`, rounded away from zero and cut to 64 bits; `None` for no quantity.
pub fn scaled(text: &str, exponent: i32) -> Option<i64> {
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.get(..18).unwrap_or(fraction);
    if (whole.is_empty() && fraction.is_empty()) || whole.len() > 19 {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let mut power = exponent - i32::try_from(fraction.len()).ok()?;
    let mut factor: i128 = 1;
    if let Some(index) = BINARY.iter().position(|s| *s == suffix) {
        factor = 1i128 << (10 * (index + 1));
    } else if let Some((_, decimal)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        power += decimal;
    } else {
        let digits = suffix.strip_prefix(['e', 'E'])?;
        let given: i32 = digits.parse().ok().filter(|e: &i32| (-64..=64).contains(e))?;
        power += given;
    }
    let mut scaled = mantissa.checked_mul(factor).unwrap_or(i128::MAX);
    if power >= 0 {
        let multiplier = 10i128.checked_pow(power.unsigned_abs()).unwrap_or(i128::MAX);
        scaled = scaled.checked_mul(multiplier).unwrap_or(i128::MAX);
    } else {
        let divisor = 10i128.checked_pow(power.unsigned_abs()).unwrap_or(i128::MAX);
        scaled = scaled / divisor + i128::from(scaled % divisor != 0);
    }
    let scaled = i64::try_from(scaled).unwrap_or(i64::MAX);
    Some(if negative { -scaled } else { scaled })
}

pub fn milli_of(list: Option<&List>, name: &str) -> Option<i64> {
    list.and_then(|list| list.get(name)).map(milli)
}

pub fn value_of(list: Option<&List>, name: &str) -> Option<i64> {
    list.and_then(|list| list.get(name)).map(value)
}

/// CPU as the API prints it: whole where it can be.
pub fn cpu(milli: i64) -> Quantity {
    Quantity(if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") })
}

/// Bytes as node status prints memory.
pub fn kibibytes(bytes: i64) -> Quantity {
    Quantity(if bytes % 1024 == 0 && bytes != 0 { format!("{}Ki", bytes / 1024) } else { bytes.to_string() })
}

pub fn count(number: i64) -> Quantity {
    Quantity(number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_round_up() {
        let table = [
            ("1", 1, 1000),
            ("100m", 1, 100),
            ("1500m", 2, 1500),
            ("1Ki", 1024, 1_024_000),
            ("0.5Gi", 536_870_912, 536_870_912_000),
            ("1e3", 1000, 1_000_000),
            ("12E", i64::MAX, i64::MAX),
            ("1n", 1, 1),
            ("-5", -5, -5000),
            ("0", 0, 0),
        ];
        for (text, whole, thousandths) in table {
            assert_eq!(value(&Quantity(text.into())), whole, "{text}");
            assert_eq!(milli(&Quantity(text.into())), thousandths, "{text}");
        }
        for bad in ["", "x", "1X", ".", "1e999", "99999999999999999999999"] {
            assert_eq!(scaled(bad, 0), None, "{bad}");
        }
    }
}
