//! Which form of the answer the client wants, and which form its body has.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use knarr_api::decode::Format;
use knarr_api::status::Status;

pub const JSON: &str = "application/json";
pub const YAML: &str = "application/yaml";
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// In the order upstream lists them.
const ACCEPTED: &[&str] = &[JSON, YAML, PROTOBUF];

/// What is shown of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Full,
    /// `meta.k8s.io/v1 Table`.
    Table,
    /// `meta.k8s.io/v1 PartialObjectMetadata`.
    Partial,
    /// `meta.k8s.io/v1 PartialObjectMetadataList`, where the answer is a list.
    PartialList,
}

/// The form of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub format: Format,
    pub shape: Shape,
    /// `v1` or `v1beta1` of `meta.k8s.io`, for shapes other than the full one.
    pub meta_version: &'static str,
    pub pretty: bool,
}

impl Output {
    /// JSON with line breaks, whatever the client accepts.
    pub fn for_people() -> Self {
        Self { format: Format::Json, shape: Shape::Full, meta_version: "v1", pretty: true }
    }

    /// Plain JSON of the whole object: what can be sent as it is stored.
    pub fn is_stored_form(&self) -> bool {
        self.format == Format::Json && self.shape == Shape::Full && !self.pretty
    }

    pub fn content_type(&self) -> &'static str {
        media_type_of(self.format)
    }
}

/// One alternative of an Accept header.
struct Clause<'a> {
    media_type: &'a str,
    params: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let mut params: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
        let quality =
            params.iter().find(|(key, _)| *key == "q").and_then(|(_, q)| q.parse().ok()).unwrap_or(1.0);
        params.retain(|(key, _)| *key != "q");
        Self { media_type, params, quality }
    }

    fn param(&self, name: &str) -> &'a str {
        self.params.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| *value)
    }

    fn format(&self, formats: &[Format]) -> Option<Format> {
        let format = match self.media_type {
            "*/*" | "application/*" => return formats.first().copied(),
            JSON => Format::Json,
            YAML => Format::Yaml,
            PROTOBUF => Format::Protobuf,
            _ => return None,
        };
        formats.contains(&format).then_some(format)
    }

    fn shape(&self) -> Option<(Shape, &'static str)> {
        let shape = match self.param("as") {
            "" => return Some((Shape::Full, "v1")),
            "Table" => Shape::Table,
            "PartialObjectMetadata" => Shape::Partial,
            "PartialObjectMetadataList" => Shape::PartialList,
            _ => return None,
        };
        let version = match (self.param("g"), self.param("v")) {
            ("meta.k8s.io", "v1") => "v1",
            ("meta.k8s.io", "v1beta1") => "v1beta1",
            _ => return None,
        };
        Some((shape, version))
    }
}

/// What the request allows of shapes.
pub type Allowed = fn(Shape) -> bool;

/// Reads the Accept header. `formats` are those on offer, the default first.
pub fn output(
    headers: &HeaderMap,
    pretty: Option<&str>,
    formats: &[Format],
    allowed: Allowed,
) -> Result<Output, Status> {
    let header = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect::<Vec<_>>().join(",");
    let mut clauses: Vec<Clause<'_>> =
        header.split(',').map(str::trim).filter(|c| !c.is_empty()).map(Clause::parse).collect();
    if clauses.is_empty() {
        clauses.push(Clause::parse("*/*"));
    }
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    for clause in clauses {
        let Some(format) = clause.format(formats) else { continue };
        let Some((shape, meta_version)) = clause.shape().filter(|(shape, _)| allowed(*shape)) else {
            continue;
        };
        if shape == Shape::Table && format == Format::Protobuf {
            // A table's cells are JSON.
            continue;
        }
        let pretty = format == Format::Json && wants_pretty(headers, pretty, &clause);
        return Ok(Output { format, shape, meta_version, pretty });
    }
    Err(not_acceptable(formats))
}

fn not_acceptable(formats: &[Format]) -> Status {
    Status::not_acceptable(&formats.iter().map(|format| media_type_of(*format)).collect::<Vec<_>>())
}

fn media_type_of(format: Format) -> &'static str {
    match format {
        Format::Json => JSON,
        Format::Yaml => YAML,
        Format::Protobuf => PROTOBUF,
    }
}

/// As [`output`], for a watch: YAML is not streamed.
pub fn watch_output(headers: &HeaderMap, formats: &[Format], allowed: Allowed) -> Result<Output, Status> {
    let output = output(headers, Some("false"), formats, allowed)?;
    if output.format != Format::Yaml {
        return Ok(output);
    }
    let streamed = formats.iter().filter(|format| **format != Format::Yaml);
    let names: Vec<String> =
        streamed.map(|format| format!("{};stream=watch", media_type_of(*format))).collect();
    Err(Status::not_acceptable(&names.iter().map(String::as_str).collect::<Vec<_>>()))
}

fn wants_pretty(headers: &HeaderMap, query: Option<&str>, clause: &Clause<'_>) -> bool {
    match (query, clause.param("pretty")) {
        (Some(value), _) => !matches!(value.to_ascii_lowercase().as_str(), "0" | "false" | "f"),
        (None, "1") => true,
        (None, _) => {
            let agent = headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
            ["curl", "Wget", "Mozilla/5.0"].iter().any(|known| agent.starts_with(known))
        }
    }
}

/// The format of a request's body.
pub fn input(headers: &HeaderMap) -> Result<Format, Status> {
    let header = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match media_type(header) {
        "" | JSON => Ok(Format::Json),
        YAML => Ok(Format::Yaml),
        PROTOBUF => Ok(Format::Protobuf),
        _ => Err(Status::unsupported_media_type(ACCEPTED)),
    }
}

/// A content type without its parameters.
pub fn media_type(header: &str) -> &str {
    header.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[Format] = &[Format::Json, Format::Yaml, Format::Protobuf];

    fn accept(text: &str) -> Result<Output, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, text.parse().unwrap());
        output(&headers, None, ALL, |shape| shape != Shape::PartialList)
    }

    #[test]
    fn the_best_alternative_on_offer_wins() {
        assert_eq!(accept("*/*").unwrap().format, Format::Json);
        assert_eq!(accept("application/yaml").unwrap().format, Format::Yaml);
        assert_eq!(
            accept("application/json;q=0.5,application/vnd.kubernetes.protobuf").unwrap().format,
            Format::Protobuf
        );
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(accept(table).unwrap().shape, Shape::Table);
        assert_eq!(
            accept("application/json;as=Table;v=v9;g=meta.k8s.io,application/json").unwrap().shape,
            Shape::Full
        );
        assert_eq!(accept("text/html").unwrap_err().code, 406);
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, YAML.parse().unwrap());
        let streamed = watch_output(&headers, ALL, |_| true).unwrap_err().message;
        assert!(
            streamed
                .ends_with("application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch")
        );
        let list = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
        assert_eq!(accept(list).unwrap_err().code, 406);
    }
}
