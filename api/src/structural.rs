//! Schemas of custom resources: the structural part of OpenAPI v3 that a definition may use.
//!
//! [`Structural::check_schema`] says whether a definition's schema may be used at all.
//! A write of a custom resource goes through, in this order: [`Structural::prune`] and
//! [`Structural::coerce_metadata`] (what is unknown falls away or is reported), [`Structural::prune_nulls`] and
//! [`Structural::apply_defaults`], then [`Structural::validate`] and [`Structural::validate_lists`]. What server-side
//! apply and patches need to know is in [`Structural::to_type`], the same form that built-in kinds have.

mod convert;
mod default;
mod format;
mod invariants;
mod lists;
mod metadata;
mod parse;
mod prune;
mod rules;
mod validate;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value;

pub use rules::{Checked, Rules, check_rules};

/// Whether a text has a format; true for formats that nobody knows.
pub fn has_format(format: &str, text: &str) -> bool {
    format::matches(format, text)
}

/// One node of a schema. Forms that are not structural are ignored when read; whether a definition may have them is
/// for the validation of definitions to say.
#[derive(Debug, Default)]
pub struct Structural {
    /// None where only extensions say what is allowed.
    pub form: Option<Form>,
    pub properties: BTreeMap<String, Structural>,
    pub additional: Option<Additional>,
    pub items: Option<Box<Structural>>,
    pub nullable: bool,
    pub default: Option<Value>,
    /// `x-kubernetes-preserve-unknown-fields`
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`
    pub embedded: bool,
    /// `x-kubernetes-int-or-string`
    pub int_or_string: bool,
    /// `x-kubernetes-list-type`
    pub list_type: Option<crate::schema::ListKind>,
    /// `x-kubernetes-list-map-keys`
    pub list_map_keys: Vec<String>,
    /// `x-kubernetes-map-type: atomic`
    pub atomic: bool,
    /// `x-kubernetes-validations`, as it stands in the schema.
    pub rules: Vec<Value>,
    pub constraints: Option<Box<Constraints>>,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Form {
    pub(super) fn name(self) -> &'static str {
        match self {
            Form::Object => "object",
            Form::Array => "array",
            Form::String => "string",
            Form::Integer => "integer",
            Form::Number => "number",
            Form::Boolean => "boolean",
        }
    }
}

/// What fields beside the named ones are.
#[derive(Debug)]
pub enum Additional {
    Allowed(bool),
    Of(Box<Structural>),
}

/// What a value must satisfy beyond its form.
#[derive(Debug, Default)]
pub struct Constraints {
    pub format: String,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub multiple_of: Option<f64>,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    pub pattern: Option<Pattern>,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub unique_items: bool,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
    pub required: Vec<String>,
    pub enumeration: Vec<Value>,
    pub all_of: Vec<Structural>,
    pub any_of: Vec<Structural>,
    pub one_of: Vec<Structural>,
    pub not: Option<Box<Structural>>,
}

/// A regular expression, compiled when first used.
#[derive(Debug)]
pub struct Pattern {
    pub text: String,
    compiled: OnceLock<Result<Regex, String>>,
}

impl Pattern {
    pub(super) fn new(text: String) -> Self {
        Self { text, compiled: OnceLock::new() }
    }

    /// Why the expression is none, in Go's words where they are common.
    pub(super) fn error(&self) -> Option<String> {
        let error = Regex::new(&self.text).err()?;
        Some(match &error {
            regex::Error::Syntax(detail) if detail.contains("unclosed group") => {
                format!("error parsing regexp: missing closing ): `{}`", self.text)
            }
            error => format!(
                "error parsing regexp: {}",
                error.to_string().lines().last().unwrap_or_default().trim()
            ),
        })
    }

    /// Whether a text matches; the error says why the expression itself is none.
    pub(super) fn matches(&self, text: &str) -> Result<bool, &str> {
        let compiled =
            self.compiled.get_or_init(|| Regex::new(&self.text).map_err(|error| error.to_string()));
        compiled.as_ref().map(|regex| regex.is_match(text)).map_err(String::as_str)
    }
}

impl Structural {
    /// The item of an old list that a new item continues: only lists that are maps tell.
    fn correlated_item<'v>(&self, old: Option<&'v Value>, item: &Value) -> Option<&'v Value> {
        if self.list_type != Some(crate::schema::ListKind::Map) {
            return None;
        }
        let same = |other: &&Value| self.list_map_keys.iter().all(|key| other.get(key) == item.get(key));
        old?.as_array()?.iter().find(same)
    }

    /// The schema of a field of an object.
    fn of_field(&self, name: &str) -> Option<&Structural> {
        self.properties.get(name).or(match &self.additional {
            Some(Additional::Of(schema)) => Some(schema),
            _ => None,
        })
    }

    fn constraints(&self) -> &Constraints {
        static NONE: Constraints = Constraints {
            format: String::new(),
            maximum: None,
            exclusive_maximum: false,
            minimum: None,
            exclusive_minimum: false,
            multiple_of: None,
            max_length: None,
            min_length: None,
            pattern: None,
            max_items: None,
            min_items: None,
            unique_items: false,
            max_properties: None,
            min_properties: None,
            required: Vec::new(),
            enumeration: Vec::new(),
            all_of: Vec::new(),
            any_of: Vec::new(),
            one_of: Vec::new(),
            not: None,
        };
        self.constraints.as_deref().unwrap_or(&NONE)
    }
}
