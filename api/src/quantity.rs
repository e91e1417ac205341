//! Quantities of resources: `500m`, `1.5Gi`, `12e6`.
//!
//! A [`Quantity`] is an exact decimal number and the family of suffixes it was written with. It prints in
//! canonical form: no fraction, the largest suffix that loses nothing. Like upstream it keeps the text it was
//! parsed from where upstream takes that for canonical already (`1.500` stays `1.500`), until it is changed.

mod format;
mod parse;

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use serde_json::Value;

pub use format::Format;
pub use parse::QuantityError;

/// An exact amount, `mantissa * 10^scale`. Amounts are equal when their numbers are, whatever their suffix.
#[derive(Clone, Debug)]
pub struct Quantity {
    mantissa: i128,
    scale: i32,
    format: Format,
    /// The text it was parsed from, where that is what upstream prints again.
    text: Option<Box<str>>,
}

impl Quantity {
    /// Zero, in plain decimal.
    pub const ZERO: Self = Self { mantissa: 0, scale: 0, format: Format::DecimalSi, text: None };

    /// `value` whole units.
    pub fn new(value: i64, format: Format) -> Self {
        Self { mantissa: i128::from(value), scale: 0, format, text: None }
    }

    /// `value` thousandths.
    pub fn from_milli(value: i64, format: Format) -> Self {
        Self { mantissa: i128::from(value), scale: -3, format, text: None }
    }

    /// A quantity in an object: a string, or a number as YAML authors write them. Null is zero.
    ///
    /// # Errors
    /// The value is not a quantity.
    pub fn from_json(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::Null => Ok(Self::ZERO),
            Value::String(text) => text.trim().parse(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(QuantityError::Format),
        }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    pub fn is_negative(&self) -> bool {
        self.mantissa < 0
    }

    /// Whole units, a fraction rounded away from zero; the largest `i64` where more.
    pub fn value(&self) -> i64 {
        self.scaled(0)
    }

    /// Thousandths, smaller parts rounded away from zero; the largest `i64` where more.
    pub fn milli_value(&self) -> i64 {
        self.scaled(-3)
    }

    /// The amount in units of `10^scale`, rounded away from zero, within the bounds of `i64`.
    pub fn scaled(&self, scale: i32) -> i64 {
        let exact = self.at_scale(scale).unwrap_or(if self.mantissa < 0 { i128::MIN } else { i128::MAX });
        i64::try_from(exact).unwrap_or(if exact < 0 { i64::MIN } else { i64::MAX })
    }

    /// Whole units, if there is no fraction and they fit.
    pub fn as_i64(&self) -> Option<i64> {
        let whole = self.at_scale(0)?;
        (Self { mantissa: whole, scale: 0, format: self.format, text: None } == *self)
            .then(|| i64::try_from(whole).ok())
            .flatten()
    }

    /// The nearest floating-point number.
    pub fn as_f64(&self) -> f64 {
        self.mantissa as f64 * 10_f64.powi(self.scale)
    }

    /// Rounds parts smaller than `10^scale` away from zero; tells whether nothing was lost.
    pub fn round_up(&mut self, scale: i32) -> bool {
        if self.scale >= scale {
            return true;
        }
        let before = self.clone();
        // Coarser than before, so it fits.
        self.mantissa = self.at_scale(scale).unwrap_or(self.mantissa);
        self.scale = scale;
        self.text = None;
        *self == before
    }

    /// The sum. A zero takes the other's format.
    pub fn add(&self, other: &Self) -> Self {
        self.combine(other, other.mantissa)
    }

    /// The difference. A zero takes the other's format.
    pub fn sub(&self, other: &Self) -> Self {
        self.combine(other, other.mantissa.saturating_neg())
    }

    /// The product.
    pub fn mul(&self, factor: i64) -> Self {
        let mantissa = self.mantissa.saturating_mul(i128::from(factor));
        Self { mantissa, scale: self.scale, format: self.format, text: None }
    }

    fn combine(&self, other: &Self, mantissa: i128) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        let other = Self { mantissa, scale: other.scale, format, text: None };
        // A zero must not drag the sum to its scale.
        let (low, high) = match (self.is_zero(), other.is_zero()) {
            (true, _) => (other.scale, other.scale),
            (_, true) => (self.scale, self.scale),
            _ => (self.scale.min(other.scale), self.scale.max(other.scale)),
        };
        let at = |scale| self.at_scale(scale)?.checked_add(other.at_scale(scale)?);
        match at(low) {
            Some(mantissa) => Self { mantissa, scale: low, format, text: None },
            // More than 38 digits apart: what the larger one cannot show is rounded up.
            None => Self { mantissa: at(high).unwrap_or(i128::MAX), scale: high, format, text: None },
        }
    }

    /// The amount in units of `10^scale`, rounded away from zero; none where it has more than 38 digits.
    fn at_scale(&self, scale: i32) -> Option<i128> {
        if self.mantissa == 0 {
            return Some(0);
        }
        let places = self.scale.checked_sub(scale)?;
        if places >= 0 {
            return power_of_ten(places)?.checked_mul(self.mantissa);
        }
        let sign = self.mantissa.signum();
        match power_of_ten(-places) {
            None => Some(sign),
            Some(divisor) => {
                let lost = self.mantissa % divisor != 0;
                Some(self.mantissa / divisor + if lost { sign } else { 0 })
            }
        }
    }
}

fn power_of_ten(exponent: i32) -> Option<i128> {
    10_i128.checked_pow(u32::try_from(exponent).ok()?)
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let signs = self.mantissa.signum().cmp(&other.mantissa.signum());
        if signs != Ordering::Equal || self.mantissa == 0 {
            return signs;
        }
        let scale = self.scale.min(other.scale);
        match (self.at_scale(scale), other.at_scale(scale)) {
            (Some(a), Some(b)) => a.cmp(&b),
            // Only one is scaled; it is beyond anything the other can be.
            (None, _) => self.mantissa.cmp(&0),
            (_, None) => 0.cmp(&other.mantissa),
        }
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (mut mantissa, mut scale) = (self.mantissa, self.scale);
        while mantissa != 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale += 1;
        }
        (mantissa, if mantissa == 0 { 0 } else { scale }).hash(state);
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self::ZERO
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn values_round_away_from_zero() {
        for (text, value, milli) in [
            ("1500m", 2, 1500),
            ("-1500m", -2, -1500),
            ("1n", 1, 1),
            ("1Ki", 1024, 1_024_000),
            ("9E", 9_000_000_000_000_000_000, i64::MAX),
            ("1e30", i64::MAX, i64::MAX),
        ] {
            assert_eq!((quantity(text).value(), quantity(text).milli_value()), (value, milli), "{text}");
        }
        assert_eq!((quantity("2k").as_i64(), quantity("1500m").as_i64()), (Some(2000), None));
    }

    #[test]
    fn sums_are_exact_and_keep_their_suffixes() {
        for (a, b, sum) in
            [("1Gi", "512Mi", "1536Mi"), ("100m", "1", "1100m"), ("0", "1Mi", "1Mi"), ("1Ki", "1", "1025")]
        {
            assert_eq!(quantity(a).add(&quantity(b)).to_string(), sum);
            assert_eq!(quantity(sum).sub(&quantity(b)), quantity(a));
        }
        assert_eq!(quantity("0").add(&quantity("1e60")).to_string(), "1e60");
        assert_eq!(quantity("250m").mul(4).to_string(), "1");
    }

    #[test]
    fn rounding_up_tells_what_was_lost() {
        let mut exact = quantity("1.500");
        assert!(exact.round_up(-3));
        assert_eq!(exact.to_string(), "1.500");
        let mut lossy = quantity("1500u");
        assert!(!lossy.round_up(-3));
        assert_eq!(lossy.to_string(), "2m");
    }

    #[test]
    fn numbers_in_json_are_quantities() {
        assert_eq!(Quantity::from_json(&serde_json::json!(0.5)), Ok(quantity("500m")));
        assert_eq!(Quantity::from_json(&serde_json::json!(" 2 ")), Ok(quantity("2")));
        assert!(Quantity::from_json(&serde_json::json!([])).is_err());
    }

    proptest! {
        #[test]
        fn printing_loses_nothing(mantissa in -i64::MAX..=i64::MAX, scale in -9..18_i32, binary: bool) {
            // Binary amounts end at the largest 64-bit number.
            let scale = if binary { scale.min(0) } else { scale };
            let format = if binary { Format::BinarySi } else { Format::DecimalSi };
            let amount = Quantity { mantissa: i128::from(mantissa), scale, format, text: None };
            let printed = amount.to_string();
            let again = quantity(&printed);
            prop_assert_eq!(&again, &amount);
            // A binary amount without a suffix cannot be told from a decimal one.
            if !binary || printed.ends_with('i') {
                prop_assert_eq!(again.to_string(), printed);
            }
        }

        #[test]
        fn order_is_that_of_numbers(a in any::<i32>(), b in any::<i32>(), x in -9..9_i32, y in -9..9_i32) {
            let make = |mantissa: i32, scale| Quantity { mantissa: mantissa.into(), scale, format: Format::DecimalSi, text: None };
            let exact = (i128::from(a) * 10_i128.pow((x + 9) as u32)).cmp(&(i128::from(b) * 10_i128.pow((y + 9) as u32)));
            prop_assert_eq!(make(a, x).cmp(&make(b, y)), exact);
            prop_assert_eq!(make(a, x).add(&make(b, y)).sub(&make(b, y)), make(a, x));
        }

        #[test]
        fn numbers_of_any_size_can_be_reckoned_with(
            a in "[0-9]{1,38}([.][0-9]{1,40})?[eE][-+]?[0-9]{1,4}",
            b in "[0-9]{1,30}([.][0-9]{1,40})?(Ki|Ei|n|E)",
        ) {
            if let (Ok(a), Ok(b)) = (a.parse::<Quantity>(), b.parse::<Quantity>()) {
                prop_assert!(a.add(&b) >= a);
                prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
                prop_assert_eq!(quantity(&a.to_string()), a.clone());
                a.sub(&b).to_string();
                a.mul(i64::MAX).milli_value();
            }
        }

        #[test]
        fn any_text_parses_or_fails(text in "[-+0-9.eEinumkKMGTPi]{0,60}|.*") {
            if let Ok(amount) = text.parse::<Quantity>() {
                prop_assert_eq!(quantity(&amount.to_string()), amount);
            }
        }
    }
}
