//! Reading quantities.

use std::str::FromStr;

use super::Quantity;
use super::format::Format;

/// Largest exponent of ten. Upstream has no limit, and spends time and memory by the exponent.
const MAX_EXPONENT: u32 = 1000;

/// Why a text is no quantity; the messages are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// Also of numbers of more than 38 digits.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The parts of a quantity's text.
struct Parts<'a> {
    negative: bool,
    /// Digits before the point, without leading zeros.
    whole: &'a str,
    /// Digits after the point.
    fraction: &'a str,
    /// Whether there were digits at all.
    digits: bool,
    suffix: &'a str,
}

fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let negative = text.starts_with('-');
    let (number, rest) = take_while(unsigned, |b| b.is_ascii_digit());
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => take_while(rest, |b| b.is_ascii_digit()),
        None => ("", rest),
    };
    let (_, exponent) = take_while(suffix, |b| b"eEinumkKMGTP".contains(&b));
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    if !exponent.bytes().all(|b| b.is_ascii_digit()) {
        return Err(QuantityError::Format);
    }
    let digits = !number.is_empty() || !fraction.is_empty();
    Ok(Parts { negative, whole: number.trim_start_matches('0'), fraction, digits, suffix })
}

fn take_while(text: &str, holds: impl Fn(u8) -> bool) -> (&str, &str) {
    // Only ASCII bytes are taken, so the split is between characters.
    text.split_at(text.bytes().take_while(|b| holds(*b)).count())
}

/// Base, exponent and format a suffix stands for.
fn interpret(suffix: &str) -> Result<(i32, i32, Format), QuantityError> {
    if let Some((base, exponent, format)) = Format::of_suffix(suffix) {
        return Ok((base, exponent, format));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).and_then(|digits| digits.parse::<i32>().ok());
    let exponent = exponent.filter(|exponent| exponent.unsigned_abs() <= MAX_EXPONENT);
    exponent.map(|exponent| (10, exponent, Format::DecimalExponent)).ok_or(QuantityError::Suffix)
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let parts = split(text)?;
        let (base, exponent, format) = interpret(parts.suffix)?;
        if let Some(quantity) = small(text, &parts, base, exponent, format) {
            return Ok(quantity);
        }
        if !parts.digits {
            return Err(QuantityError::Numeric);
        }
        let quantity = if base == 2 { binary(&parts, exponent) } else { decimal(&parts, exponent, format)? };
        Ok(if parts.negative { Self { mantissa: -quantity.mantissa, ..quantity } } else { quantity })
    }
}

/// Quantities that fit 64 bits, which upstream reads on a path of its own: only these keep their text.
fn small(text: &str, parts: &Parts<'_>, base: i32, exponent: i32, format: Format) -> Option<Quantity> {
    let whole = if parts.whole.is_empty() { "0" } else { parts.whole };
    let length = i64::try_from(whole.len() + parts.fraction.len()).ok()?;
    let (precision, scale, factor) = match base {
        10 => (18 - length, exponent, 1),
        _ if parts.fraction.is_empty() => {
            (14 - length - i64::from(exponent) * 3 / 10, 0, 1_i64.checked_shl(exponent.unsigned_abs())?)
        }
        _ => return None,
    };
    if precision < 0 {
        return None;
    }
    let scale = scale.checked_sub(i32::try_from(parts.fraction.len()).ok()?)?;
    if scale < -9 {
        return None;
    }
    let digits: i64 = format!("{whole}{}", parts.fraction).parse().ok()?;
    let canonical = if base == 2 {
        digits & 7 != 0
    } else {
        scale % 3 == 0 && digits % 1000 != 0 && !whole.starts_with('0')
    };
    let mantissa = i128::from(digits.checked_mul(factor)?);
    Some(Quantity {
        mantissa: if parts.negative { -mantissa } else { mantissa },
        scale,
        format,
        text: canonical.then(|| text.into()),
    })
}

/// A decimal number of any size; what is below a billionth is rounded up.
fn decimal(parts: &Parts<'_>, exponent: i32, format: Format) -> Result<Quantity, QuantityError> {
    // Zeros at the end are no digits to keep.
    let whole = if parts.fraction.is_empty() { parts.whole.trim_end_matches('0') } else { parts.whole };
    let zeros = i32::try_from(parts.whole.len() - whole.len()).map_err(|_| QuantityError::Numeric)?;
    let exponent = exponent.checked_add(zeros).ok_or(QuantityError::Suffix)?;
    let mut mantissa = accumulate(0, whole).ok_or(QuantityError::Numeric)?;
    let (mut places, mut more) = (0_i32, false);
    for digit in parts.fraction.bytes() {
        match mantissa.checked_mul(10).and_then(|shifted| shifted.checked_add(i128::from(digit - b'0'))) {
            Some(next) if !more => (mantissa, places) = (next, places + 1),
            _ => more |= digit != b'0',
        }
    }
    let scale = exponent.checked_sub(places).ok_or(QuantityError::Suffix)?;
    let mut quantity = Quantity { mantissa, scale, format, text: None };
    if more {
        quantity.mantissa = mantissa.checked_add(1).ok_or(QuantityError::Numeric)?;
    }
    quantity.round_up(-9);
    Ok(quantity)
}

/// A number with a binary suffix, at most `i64::MAX`; what is below a billionth is rounded up.
fn binary(parts: &Parts<'_>, exponent: i32) -> Quantity {
    /// As many digits of a fraction as 2^60 can be multiplied with.
    const PLACES: usize = 20;
    let factor = 1_i128 << exponent;
    let most = i128::from(i64::MAX);
    let capped = Quantity { mantissa: most, scale: 0, format: Format::BinarySi, text: None };
    // Twenty digits are beyond the cap already.
    let Some(whole) =
        Some(parts.whole).filter(|whole| whole.len() < 20).and_then(|whole| accumulate(0, whole))
    else {
        return capped;
    };
    let kept = &parts.fraction[..parts.fraction.len().min(PLACES)];
    let mut fraction = Quantity {
        mantissa: accumulate(0, kept).unwrap_or_default() * factor,
        scale: -(kept.len() as i32),
        format: Format::BinarySi,
        text: None,
    };
    fraction.round_up(-9);
    let sum =
        Quantity { mantissa: whole * factor, scale: 0, format: Format::BinarySi, text: None }.add(&fraction);
    let below_one = !sum.is_zero() && sum < Quantity::new(1, Format::BinarySi);
    if sum > capped {
        return capped;
    }
    // Less than one in binary would be rounded when printed.
    Quantity { format: if below_one { Format::DecimalSi } else { Format::BinarySi }, ..sum }
}

fn accumulate(start: i128, digits: &str) -> Option<i128> {
    digits
        .bytes()
        .try_fold(start, |number, digit| number.checked_mul(10)?.checked_add(i128::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str) -> Result<String, QuantityError> {
        text.parse::<Quantity>().map(|quantity| quantity.to_string())
    }

    #[test]
    fn what_upstream_takes_for_canonical_stays_as_written() {
        for text in ["0", "1", "100m", "1.500", "1.125", "+5", "05", "5e3", "5E3", "1500Mi", "1.", "-3n"] {
            assert_eq!(printed(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn all_else_becomes_canonical() {
        for (text, canonical) in [
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("0.5Gi", "512Mi"),
            ("1024Mi", "1Gi"),
            ("2048Ki", "2Mi"),
            ("1000", "1k"),
            ("1000000", "1M"),
            ("1e3", "1e3"),
            ("12e6", "12e6"),
            ("5e2", "500"),
            ("0.1n", "1n"),
            ("0.0000000001", "1n"),
            ("1.1Ki", "1126400m"),
            ("0.001Ki", "1024m"),
            ("0.0001Ki", "102400u"),
            ("-0.5", "-500m"),
            ("0.0", "0"),
            ("0Gi", "0"),
            ("+", "0"),
            ("Ki", "0"),
            ("16Ei", "9223372036854775807"),
            ("-16Ei", "-9223372036854775807"),
            ("1000E", "1000E"),
            ("100000000000000000000", "100E"),
            ("1023", "1023"),
            ("0.000001Ki", "1024u"),
        ] {
            assert_eq!(printed(text).as_deref(), Ok(canonical), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_in_upstreams_words() {
        for text in ["", "a", "1 ", " 1", "1x", "1.2.3", "1Kib", "1\u{b5}"] {
            assert_eq!(printed(text), Err(QuantityError::Format), "{text}");
        }
        for text in ["--1", "1i", "1mm", "1Ki1", "1e", "1KiKi", "1e99999999999", "1e1001", "1K"] {
            assert_eq!(printed(text), Err(QuantityError::Suffix), "{text}");
        }
        assert_eq!(printed("Ei"), Err(QuantityError::Numeric));
        assert_eq!(printed(&"9".repeat(60)), Err(QuantityError::Numeric));
    }
}
