//! The options of a stream, from the query.

use jiff::Timestamp;
use knarr_api::status::{Cause, Status};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// A decoded query.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: Option<&str>) -> Self {
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(k, v)| (decode(k), decode(v)))
                .collect(),
        )
    }

    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whatever is given is true, but for `false` and `0`.
    pub fn flag(&self, name: &str) -> bool {
        self.first(name).is_some_and(|value| !(value.eq_ignore_ascii_case("false") || value == "0"))
    }

    fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        let parse = |value: &str| {
            value.parse().map_err(|_| {
                Status::bad_request(format!("strconv.ParseInt: parsing {value:?}: invalid syntax"))
            })
        };
        self.first(name).filter(|value| !value.is_empty()).map(parse).transpose()
    }
}

/// Query parameters on the way out.
#[derive(Default)]
pub(super) struct Params(String);

impl Params {
    pub fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        self.0.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
    }

    /// Appends the parameters to a path.
    pub fn on(self, path: &str) -> String {
        if self.0.is_empty() { path.to_owned() } else { format!("{path}?{}", self.0) }
    }
}

/// The parameters of the kubelet's log endpoint.
///
/// Errors: a number or time does not parse, 400; a value is out of range, 422.
pub(super) fn log(query: &Query, pod: &str) -> Result<Params, Status> {
    let (since, tail, bytes) =
        (query.number("sinceSeconds")?, query.number("tailLines")?, query.number("limitBytes")?);
    let since_time = query.first("sinceTime").filter(|value| !value.is_empty());
    let mut causes = Vec::new();
    let mut invalid = |field: &str, value: i64, why: &str| {
        causes.push(Cause::new("FieldValueInvalid", field, format!("Invalid value: {value}: {why}")));
    };
    if let Some(tail) = tail.filter(|tail| *tail < 0) {
        invalid("tailLines", tail, "must be greater than or equal to 0");
    }
    if let Some(bytes) = bytes.filter(|bytes| *bytes < 1) {
        invalid("limitBytes", bytes, "must be greater than 0");
    }
    match (since, since_time) {
        (Some(_), Some(_)) => causes.push(Cause::new(
            "FieldValueForbidden",
            "",
            "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        )),
        (Some(since), None) if since < 1 => invalid("sinceSeconds", since, "must be greater than 0"),
        _ => {}
    }
    if !causes.is_empty() {
        return Err(Status::invalid("", "PodLogOptions", pod, causes));
    }
    let mut params = Params::default();
    for flag in ["follow", "previous", "timestamps"] {
        if query.flag(flag) {
            params.add(flag, "true");
        }
    }
    for (name, value) in [("sinceSeconds", since), ("tailLines", tail), ("limitBytes", bytes)] {
        if let Some(value) = value {
            params.add(name, &value.to_string());
        }
    }
    if let Some(time) = since_time {
        let time: Timestamp = time.parse().map_err(|_| {
            Status::bad_request(format!(
                "parsing time {time:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse"
            ))
        })?;
        params.add("sinceTime", &time.to_string());
    }
    Ok(params)
}

/// The parameters of the kubelet's exec and attach endpoints.
pub(super) fn session(query: &Query, with_command: bool) -> Params {
    let mut params = Params::default();
    for (given, sent) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if query.flag(given) {
            params.add(sent, "1");
        }
    }
    if with_command {
        for part in query.all("command") {
            params.add("command", part);
        }
    }
    params
}

/// The parameters of the kubelet's port-forward endpoint.
pub(super) fn port_forward(query: &Query) -> Result<Params, Status> {
    let mut ports = Vec::new();
    for port in query.all("ports").flat_map(|ports| ports.split(',')).filter(|port| !port.is_empty()) {
        let number: i32 = port.parse().map_err(|_| {
            Status::bad_request(format!("strconv.ParseInt: parsing {port:?}: invalid syntax"))
        })?;
        ports.push(number.to_string());
    }
    let mut params = Params::default();
    if !ports.is_empty() {
        params.add("port", &ports.join(","));
    }
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_asked_for_in_the_kubelets_words() {
        let query = Query::parse(Some("command=sh&command=-c&command=a+%26%20b&stdin=true&tty=false&stdout"));
        assert_eq!(
            session(&query, true).on("/exec/a/b/c"),
            "/exec/a/b/c?input=1&output=1&command=sh&command=%2Dc&command=a%20%26%20b"
        );
    }

    #[test]
    fn log_options_out_of_range_are_refused() {
        let refused = |query: &str| log(&Query::parse(Some(query)), "web").err().unwrap();
        assert_eq!(
            refused("tailLines=-1").message,
            r#"PodLogOptions "web" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"#
        );
        assert_eq!(refused("tailLines=x").code, 400);
        let params = log(&Query::parse(Some("follow=true&tailLines=5")), "web").ok().unwrap();
        assert_eq!(params.on("/l"), "/l?follow=true&tailLines=5");
    }
}
