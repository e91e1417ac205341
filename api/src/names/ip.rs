//! IP addresses and networks in fields.
//!
//! New fields take only the canonical form. Older ones also take IPv6 in any spelling; what was stored before
//! the strict rule came (leading zeros, IPv4 written as IPv6, bits beyond the prefix) stays valid on update.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::field::{Error, ErrorList, Path, quote};

/// A network, its address masked to the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    pub network: IpAddr,
    pub prefix: u8,
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl Cidr {
    /// Whether `address` lies in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.network.is_ipv4() == address.is_ipv4() && mask(address, self.prefix) == self.network
    }
}

/// An address in canonical form.
pub fn ip(path: &Path, value: &str) -> ErrorList {
    let errors = ip_legacy(path, value, &[]);
    match parse_ip_sloppy(value).filter(|_| errors.is_empty()) {
        Some(address) if address.to_string() != value => not_canonical(path, value, &address.to_string()),
        _ => errors,
    }
}

/// An address of a field older than the strict rule; a value in `valid_old` is not looked at.
pub fn ip_legacy(path: &Path, value: &str, valid_old: &[&str]) -> ErrorList {
    if valid_old.contains(&value) {
        return ErrorList::new();
    }
    let Some(_) = parse_ip_sloppy(value) else {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        return Error::invalid(path, value, detail).into();
    };
    match value.parse::<IpAddr>() {
        Err(_) => Error::invalid(path, value, "must not have leading 0s").into(),
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Error::invalid(path, value, "must not be an IPv4-mapped IPv6 address").into()
        }
        Ok(_) => ErrorList::new(),
    }
}

/// A network in canonical form.
pub fn cidr(path: &Path, value: &str) -> ErrorList {
    let errors = cidr_legacy(path, value, &[]);
    match parse_cidr_sloppy(value).filter(|_| errors.is_empty()) {
        Some((_, network)) if network.to_string() != value => {
            not_canonical(path, value, &network.to_string())
        }
        _ => errors,
    }
}

/// A network of a field older than the strict rule; a value in `valid_old` is not looked at.
pub fn cidr_legacy(path: &Path, value: &str, valid_old: &[&str]) -> ErrorList {
    if valid_old.contains(&value) {
        return ErrorList::new();
    }
    let Some((address, network)) = parse_cidr_sloppy(value) else {
        let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        return Error::invalid(path, value, detail).into();
    };
    let (host, prefix) = value.split_once('/').unwrap_or((value, ""));
    let detail = if host.parse::<IpAddr>().is_err() || (prefix.len() > 1 && prefix.starts_with('0')) {
        "must not have leading 0s in IP or prefix length"
    } else if host.contains(':') && address.is_ipv4() {
        "must not have an IPv4-mapped IPv6 address"
    } else if address != network.network {
        "must not have bits set beyond the prefix length"
    } else {
        return ErrorList::new();
    };
    Error::invalid(path, value, detail).into()
}

/// An address with the length of its network's prefix, such as `192.168.1.5/24`, in canonical form.
pub fn interface_address(path: &Path, value: &str) -> ErrorList {
    let Some((address, network)) = parse_cidr_sloppy(value) else {
        let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        return Error::invalid(path, value, detail).into();
    };
    let canonical = format!("{address}/{}", network.prefix);
    if canonical == value { ErrorList::new() } else { not_canonical(path, value, &canonical) }
}

fn not_canonical(path: &Path, value: &str, canonical: &str) -> ErrorList {
    Error::invalid(path, value, format!("must be in canonical form ({})", quote(canonical))).into()
}

/// An address as upstream always read them: IPv4 may have leading zeros, IPv4 in IPv6 is IPv4.
pub fn parse_ip_sloppy(value: &str) -> Option<IpAddr> {
    if !value.contains(':') {
        return parse_v4_sloppy(value).map(IpAddr::V4);
    }
    let v6: Ipv6Addr = match value.rsplit_once(':') {
        Some((head, tail)) if tail.contains('.') => {
            format!("{head}:{}", parse_v4_sloppy(tail)?).parse().ok()?
        }
        _ => value.parse().ok()?,
    };
    Some(v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4))
}

/// A network as upstream always read them: the address as written, and the network it lies in.
pub fn parse_cidr_sloppy(value: &str) -> Option<(IpAddr, Cidr)> {
    let (host, prefix) = value.split_once('/')?;
    let address = parse_ip_sloppy(host)?;
    let mut length = parse_decimal(prefix, if host.contains(':') { 128 } else { 32 })?;
    if host.contains(':') && address.is_ipv4() {
        length = length.checked_sub(96)?;
    }
    let prefix = u8::try_from(length).ok()?;
    Some((address, Cidr { network: mask(address, prefix), prefix }))
}

fn parse_v4_sloppy(value: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = value.split('.');
    for octet in &mut octets {
        *octet = u8::try_from(parse_decimal(parts.next()?, 255)?).ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

fn parse_decimal(text: &str, max: u32) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.bytes().try_fold(0_u32, |number, b| {
        let digit = b.is_ascii_digit().then(|| u32::from(b - b'0'))?;
        Some(number * 10 + digit).filter(|number| *number <= max)
    })
}

fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & keep))
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & keep))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(errors: &ErrorList) -> String {
        errors.first().map(|error| error.detail.clone()).unwrap_or_default()
    }

    #[test]
    fn addresses_are_canonical_or_old() {
        let at = Path::new("x");
        assert_eq!(says(&ip(&at, "10.0.0.1")), "");
        assert_eq!(says(&ip(&at, "2001:DB8::1")), "must be in canonical form (\"2001:db8::1\")");
        assert_eq!(says(&ip_legacy(&at, "2001:DB8::1", &[])), "");
        assert_eq!(says(&ip(&at, "010.0.0.1")), "must not have leading 0s");
        assert_eq!(says(&ip(&at, "::ffff:1.2.3.4")), "must not be an IPv4-mapped IPv6 address");
        assert_eq!(says(&ip_legacy(&at, "010.0.0.1", &["010.0.0.1"])), "");
        for bad in ["", "1.2.3", "1.2.3.256", "1.2.3.4.5", "a", ":", "fe80::1%lo", "1.2.3.4/8"] {
            assert!(says(&ip(&at, bad)).starts_with("must be a valid IP address"), "{bad}");
        }
    }

    #[test]
    fn networks_are_canonical_or_old() {
        let at = Path::new("x");
        assert_eq!(says(&cidr(&at, "10.0.0.0/8")), "");
        assert_eq!(says(&cidr(&at, "::/0")), "");
        assert_eq!(says(&cidr(&at, "10.0.0.1/8")), "must not have bits set beyond the prefix length");
        assert_eq!(says(&cidr(&at, "10.0.0.0/08")), "must not have leading 0s in IP or prefix length");
        assert_eq!(says(&cidr(&at, "::ffff:10.0.0.0/104")), "must not have an IPv4-mapped IPv6 address");
        assert_eq!(says(&cidr(&at, "FD00::/8")), "must be in canonical form (\"fd00::/8\")");
        assert!(says(&cidr(&at, "10.0.0.0/33")).starts_with("must be a valid CIDR value"));
        assert_eq!(says(&interface_address(&at, "10.0.0.1/8")), "");
    }

    #[test]
    fn a_network_contains_its_addresses() {
        let (_, network) = parse_cidr_sloppy("10.1.0.0/16").expect("valid");
        assert!(
            network.contains(IpAddr::from([10, 1, 2, 3])) && !network.contains(IpAddr::from([10, 2, 0, 0]))
        );
    }
}
