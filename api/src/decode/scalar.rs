//! Scalars with a text form of their own, brought into the form upstream stores.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::error::DecodeError;
use super::go_time;
use crate::duration;
use crate::quantity::Quantity;

type Scalar<T> = Result<T, DecodeError>;

/// Go's standard decoder: padding is required, stray bits in the last character are ignored.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

pub(crate) fn quantity(text: &str) -> Scalar<String> {
    let parsed: Result<Quantity, _> = text.trim().parse();
    parsed.map(|quantity| quantity.to_string()).map_err(|error| DecodeError::Value(error.to_string()))
}

/// None for the zero time.
pub(super) fn time(text: &str) -> Scalar<Option<String>> {
    let time = go_time::parse(text, go_time::SECONDS).map_err(DecodeError::Value)?;
    Ok((!go_time::is_zero(time)).then(|| go_time::seconds(time)))
}

/// None for the zero time.
pub(super) fn micro_time(text: &str) -> Scalar<Option<String>> {
    let time = go_time::parse(text, go_time::MICROS).map_err(DecodeError::Value)?;
    Ok((!go_time::is_zero(time)).then(|| go_time::micros(time)))
}

pub(super) fn duration(text: &str) -> Scalar<String> {
    duration::parse(text).map(duration::format).map_err(|error| DecodeError::Value(error.to_string()))
}

/// Base64 without line breaks.
pub(super) fn bytes(text: &str) -> Scalar<String> {
    let compact: String;
    let text = if text.contains(['\r', '\n']) {
        compact = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        &compact
    } else {
        text
    };
    match BASE64.decode(text) {
        Ok(bytes) => Ok(BASE64.encode(bytes)),
        Err(error) => {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => {
                    text.len() / 4 * 4
                }
            };
            Err(DecodeError::Value(format!("illegal base64 data at input byte {at}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_go_reads_it() {
        assert_eq!(bytes("YWJj\nZA==").expect("lines"), "YWJjZA==");
        assert_eq!(bytes("YWJjZB==").expect("stray bits"), "YWJjZA==");
        assert_eq!(bytes("a?bc").expect_err("character").to_string(), "illegal base64 data at input byte 1");
        assert_eq!(bytes("YWJ").expect_err("padding").to_string(), "illegal base64 data at input byte 0");
    }
}
