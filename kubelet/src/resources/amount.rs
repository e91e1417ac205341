//! Quantities as numbers: thousandths and whole units, rounded up as upstream rounds.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use knarr_api::quantity::{Format, Quantity as Parsed};

pub type List = BTreeMap<String, Quantity>;

/// The quantity times a thousand, rounded up; 0 for what does not parse (the API server lets no such thing in).
pub fn milli(quantity: &Quantity) -> i64 {
    parse(&quantity.0).map_or(0, |quantity| quantity.milli_value())
}

/// The quantity in whole units, rounded up.
pub fn value(quantity: &Quantity) -> i64 {
    units(&quantity.0).unwrap_or(0)
}

/// The same for text of a configuration; `None` for no quantity.
pub fn units(text: &str) -> Option<i64> {
    parse(text).map(|quantity| quantity.value())
}

fn parse(text: &str) -> Option<Parsed> {
    text.parse().ok()
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

/// Bytes in the largest binary unit that is exact.
pub fn bytes(bytes: i64) -> Quantity {
    Quantity(Parsed::new(bytes, Format::BinarySi).to_string())
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
            ("1n", 1, 1),
            ("0", 0, 0),
        ];
        for (text, whole, thousandths) in table {
            assert_eq!(value(&Quantity(text.into())), whole, "{text}");
            assert_eq!(milli(&Quantity(text.into())), thousandths, "{text}");
        }
        for bad in ["", "x", "1X"] {
            assert_eq!(units(bad), None, "{bad}");
        }
        assert_eq!(bytes(64 << 20).0, "64Mi");
    }
}
