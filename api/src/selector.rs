//! Which objects are meant: by labels and by fields.
//!
//! Selectors are parsed once and matched often; matching borrows from the object and does not allocate.

mod field;
mod label;
mod label_selector;
mod parse;

pub use field::{FieldSelector, FieldSelectorError, FieldTerm, Fields, escape_value, unescape_value};
pub use label::{Labels, Operator, Requirement, Selector, SelectorError};
pub use label_selector::{LabelSelectorOptions, validate_label_selector};
