//! Named formats of text.

use super::{Result, no_overload};
use crate::cel::error::EvalError;
use crate::cel::functions::Definition;
use crate::cel::value::{Opaque, Value};
use crate::names;

/// One of the named formats.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    name: &'static str,
    /// What is wrong with a text.
    check: fn(&str) -> Vec<String>,
    /// The length of the regular expression that it stands for, as costs count it.
    pub(in crate::cel) pattern_size: u64,
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

macro_rules! formats {
    ($($name:literal $constant:ident $call:ident $size:literal $check:expr;)*) => {
        $(
            const $constant: Format = Format { name: $name, check: $check, pattern_size: $size };

            fn $call<'a>(_: &[Value<'a>]) -> Result<'a> {
                Ok(Opaque::Format($constant).into())
            }
        )*

        const ALL: &[Format] = &[$($constant),*];

        pub(super) const FUNCTIONS: &[Definition] = &[
            ("format.named", named, &[("format-named", "string -> opt(format)")]),
            ("validate", validate, &[("format-validate", ". format, string -> opt(list(string))")]),
            $((concat!("format.", $name), $call, &[(concat!("format.", $name), "-> format")])),*
        ];
    };
}

formats! {
    "dns1123Label" LABEL label 30 names::dns_label;
    "dns1123Subdomain" SUBDOMAIN subdomain 60 names::dns_subdomain;
    "dns1035Label" LABEL_1035 label_1035 30 names::dns_1035_label;
    "qualifiedName" QUALIFIED qualified 60 names::qualified_name;
    "dns1123LabelPrefix" LABEL_PREFIX label_prefix 30 |text| names::name_is_dns_label(text, true);
    "dns1123SubdomainPrefix" SUBDOMAIN_PREFIX subdomain_prefix 60 |text| names::name_is_dns_subdomain(text, true);
    "dns1035LabelPrefix" LABEL_1035_PREFIX label_1035_prefix 30 |text| names::name_is_dns_1035_label(text, true);
    "labelValue" LABEL_VALUE label_value 40 names::label_value;
    "uri" URI uri 1111 |text| super::Url::read(text).err().into_iter().collect();
    "uuid" UUID uuid 67 |text| plain("uuid", text, "does not match the UUID format");
    "byte" BYTE byte 84 |text| plain("byte", text, "invalid base64");
    "date" DATE date 85 |text| plain("date", text, "invalid date");
    "datetime" DATETIME datetime 85 |text| plain("datetime", text, "invalid datetime");
}

/// A format that schemas have too.
fn plain(format: &str, text: &str, fault: &str) -> Vec<String> {
    if crate::structural::has_format(format, text) { Vec::new() } else { vec![fault.to_owned()] }
}

fn named<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(name)] = args else { return no_overload() };
    let found = ALL.iter().find(|format| format.name == &**name);
    Ok(found.map_or(Value::NONE, |format| Value::some(Opaque::Format(*format).into())))
}

fn validate<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::Opaque(value), Value::String(text)] = args else { return no_overload() };
    let Opaque::Format(format) = &**value else { return Err(EvalError::NoSuchOverload) };
    let faults: Vec<Value<'a>> = (format.check)(text).into_iter().map(Value::from).collect();
    Ok(if faults.is_empty() { Value::NONE } else { Value::some(faults.into()) })
}
