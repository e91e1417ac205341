//! Addresses and networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Result, no_overload};
use crate::cel::error::EvalError;
use crate::cel::functions::Definition;
use crate::cel::value::{Opaque, Value};
use crate::field::quote;

pub(super) const FUNCTIONS: &[Definition] = &[
    ("ip", ip, &[("string_to_ip", "string -> ip"), ("cidr_ip", ". cidr -> ip")]),
    ("ip.isCanonical", is_canonical, &[("ip_is_canonical", "string -> bool")]),
    ("isIP", is_ip, &[("is_ip", "string -> bool")]),
    ("family", family, &[("ip_family", ". ip -> int")]),
    ("isUnspecified", is_unspecified, &[("ip_is_unspecified", ". ip -> bool")]),
    ("isLoopback", is_loopback, &[("ip_is_loopback", ". ip -> bool")]),
    ("isLinkLocalMulticast", is_link_local_multicast, &[("ip_is_link_local_multicast", ". ip -> bool")]),
    ("isLinkLocalUnicast", is_link_local_unicast, &[("ip_is_link_local_unicast", ". ip -> bool")]),
    ("isGlobalUnicast", is_global_unicast, &[("ip_is_global_unicast", ". ip -> bool")]),
    ("cidr", cidr, &[("string_to_cidr", "string -> cidr")]),
    ("isCIDR", is_cidr, &[("is_cidr", "string -> bool")]),
    (
        "containsIP",
        contains_ip,
        &[
            ("cidr_contains_ip_string", ". cidr, string -> bool"),
            ("cidr_contains_ip_ip", ". cidr, ip -> bool"),
        ],
    ),
    (
        "containsCIDR",
        contains_cidr,
        &[
            ("cidr_contains_cidr_string", ". cidr, string -> bool"),
            ("cidr_contains_cidr", ". cidr, cidr -> bool"),
        ],
    ),
    ("prefixLength", prefix_length, &[("cidr_prefix_length", ". cidr -> int")]),
    ("masked", masked, &[("cidr_masked", ". cidr -> cidr")]),
];

fn parse_ip(text: &str) -> std::result::Result<IpAddr, EvalError> {
    let quoted = quote(text);
    if text.contains('%') {
        return Err(EvalError::failed(format!("IP address {quoted} with zone value is not allowed")));
    }
    let ip: IpAddr = text.parse().map_err(|_| {
        EvalError::failed(format!(
            "IP Address {quoted} parse error during conversion from string: ParseAddr({quoted}): unable to parse IP"
        ))
    })?;
    if matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some()) {
        return Err(EvalError::failed(format!("IPv4-mapped IPv6 address {quoted} is not allowed")));
    }
    Ok(ip)
}

fn parse_cidr(text: &str) -> std::result::Result<(IpAddr, u8), EvalError> {
    let failed = |why: &str| {
        EvalError::failed(format!(
            "network address parse error during conversion from string: network address parse error during \
             conversion from string: netip.ParsePrefix({}): {why}",
            quote(text)
        ))
    };
    let (address, length) = text.rsplit_once('/').ok_or_else(|| failed("no '/'"))?;
    let ip: IpAddr = address.parse().map_err(|_| failed("unable to parse IP"))?;
    if matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some()) {
        return Err(EvalError::failed(format!("IPv4-mapped IPv6 address {} is not allowed", quote(text))));
    }
    let canonical = !length.starts_with('+') && (length == "0" || !length.starts_with('0'));
    let bits: u8 = length.parse().ok().filter(|_| canonical).ok_or_else(|| failed("bad bits after slash"))?;
    if bits > if ip.is_ipv4() { 32 } else { 128 } {
        return Err(failed("prefix length out of range"));
    }
    Ok((ip, bits))
}

fn mask(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from(u32::from(ip) & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from(u128::from(ip) & mask).into()
        }
    }
}

fn address(value: &Value<'_>) -> std::result::Result<IpAddr, EvalError> {
    match value {
        Value::String(text) => parse_ip(text),
        Value::Opaque(value) => match &**value {
            Opaque::Ip(ip) => Ok(*ip),
            _ => Err(EvalError::NoSuchOverload),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn network(value: &Value<'_>) -> std::result::Result<(IpAddr, u8), EvalError> {
    match value {
        Value::String(text) => parse_cidr(text),
        Value::Opaque(value) => match &**value {
            Opaque::Cidr(ip, bits) => Ok((*ip, *bits)),
            _ => Err(EvalError::NoSuchOverload),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn ip<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::String(text)] => Ok(Opaque::Ip(parse_ip(text)?).into()),
        [value] => Ok(Opaque::Ip(network(value)?.0).into()),
        _ => no_overload(),
    }
}

fn is_canonical<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    Ok((parse_ip(text)?.to_string() == **text).into())
}

fn is_ip<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    Ok(parse_ip(text).is_ok().into())
}

fn is_cidr<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    Ok(parse_cidr(text).is_ok().into())
}

fn cidr<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    let (ip, bits) = parse_cidr(text)?;
    Ok(Opaque::Cidr(ip, bits).into())
}

fn of_address<'a>(args: &[Value<'a>], test: fn(IpAddr) -> bool) -> Result<'a> {
    let [value @ Value::Opaque(_)] = args else { return no_overload() };
    Ok(test(address(value)?).into())
}

fn family<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [value @ Value::Opaque(_)] = args else { return no_overload() };
    Ok(Value::Int(if address(value)?.is_ipv4() { 4 } else { 6 }))
}

fn is_unspecified<'a>(args: &[Value<'a>]) -> Result<'a> {
    of_address(args, |ip| ip.is_unspecified())
}

fn is_loopback<'a>(args: &[Value<'a>]) -> Result<'a> {
    of_address(args, |ip| ip.is_loopback())
}

fn link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    }
}

fn link_local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_link_local_multicast<'a>(args: &[Value<'a>]) -> Result<'a> {
    of_address(args, link_local_multicast)
}

fn is_link_local_unicast<'a>(args: &[Value<'a>]) -> Result<'a> {
    of_address(args, link_local_unicast)
}

fn is_global_unicast<'a>(args: &[Value<'a>]) -> Result<'a> {
    of_address(args, |ip| {
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        !(broadcast || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local_unicast(ip))
    })
}

fn contains_ip<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [within @ Value::Opaque(_), other] = args else { return no_overload() };
    let ((ip, bits), other) = (network(within)?, address(other)?);
    Ok((ip.is_ipv4() == other.is_ipv4() && mask(ip, bits) == mask(other, bits)).into())
}

fn contains_cidr<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [within @ Value::Opaque(_), other] = args else { return no_overload() };
    let ((ip, bits), (other, longer)) = (network(within)?, network(other)?);
    let inside = ip.is_ipv4() == other.is_ipv4() && bits <= longer && mask(ip, bits) == mask(other, bits);
    Ok(inside.into())
}

fn prefix_length<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [value @ Value::Opaque(_)] = args else { return no_overload() };
    Ok(Value::Int(i64::from(network(value)?.1)))
}

fn masked<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [value @ Value::Opaque(_)] = args else { return no_overload() };
    let (ip, bits) = network(value)?;
    Ok(Opaque::Cidr(mask(ip, bits), bits).into())
}
