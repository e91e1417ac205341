//! Writing quantities.

use std::fmt;

use super::Quantity;

/// The family of suffixes a quantity is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Powers of 1000: n, u, m, k, M, G, T, P, E.
    DecimalSi,
    /// Powers of 1024: Ki, Mi, Gi, Ti, Pi, Ei.
    BinarySi,
    /// Powers of 1000 as numbers: e3, e6.
    DecimalExponent,
}

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Format {
    /// Base, exponent and family of a suffix that is no exponent.
    pub(super) fn of_suffix(suffix: &str) -> Option<(i32, i32, Self)> {
        if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
            return Some((10, *exponent, Self::DecimalSi));
        }
        let power = BINARY.iter().position(|name| *name == suffix)?;
        Some((2, power as i32 * 10, Self::BinarySi))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = &self.text {
            return f.pad(text);
        }
        if self.is_zero() {
            return f.pad("0");
        }
        let text = match self.format {
            Format::BinarySi => self.binary().unwrap_or_else(|| self.decimal(Format::DecimalSi)),
            format => self.decimal(format),
        };
        f.pad(&text)
    }
}

impl Quantity {
    /// The binary form; none for amounts below 1024, which read better in decimal, and for fractions.
    fn binary(&self) -> Option<String> {
        let mut amount = self.at_scale(0)?;
        if amount.abs() < 1024
            || (self.scale < 0 && amount.checked_mul(super::power_of_ten(-self.scale)?)? != self.mantissa)
        {
            return None;
        }
        let mut power = 0;
        while amount % 1024 == 0 && power + 1 < BINARY.len() {
            amount /= 1024;
            power += 1;
        }
        Some(format!("{amount}{}", BINARY[power]))
    }

    fn decimal(&self, format: Format) -> String {
        let (mut amount, mut exponent) = (self.mantissa, self.scale);
        while amount % 10 == 0 {
            amount /= 10;
            exponent += 1;
        }
        let highest = if format == Format::DecimalSi { 18 } else { i32::MAX };
        let mut zeros = 0;
        while exponent % 3 != 0 || exponent > highest {
            exponent -= 1;
            zeros += 1;
        }
        let zeros = "0".repeat(zeros);
        match DECIMAL.iter().find(|(_, known)| *known == exponent) {
            Some((suffix, _)) if format == Format::DecimalSi => format!("{amount}{zeros}{suffix}"),
            _ if exponent == 0 => format!("{amount}{zeros}"),
            _ => format!("{amount}{zeros}e{exponent}"),
        }
    }
}
