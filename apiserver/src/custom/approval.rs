//! Groups of the Kubernetes project itself: a definition in one of them says who approved of it.

use serde_json::Value;

pub const ANNOTATION: &str = "api-approved.kubernetes.io";
const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// What the annotation says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approval {
    Missing,
    Invalid,
    /// The author says that nobody approved.
    Bypassed,
    Approved,
}

/// Whether definitions in the group need the annotation.
pub fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

impl Approval {
    /// What an annotation (empty: none) says, and why.
    pub fn read(annotation: &str) -> (Self, String) {
        let asked = format!("protected groups must have approval annotation {ANNOTATION:?}");
        if annotation.is_empty() {
            return (Self::Missing, format!("{asked}, {SEE}"));
        }
        if annotation.starts_with("unapproved") {
            return (Self::Bypassed, format!("not approved: {annotation:?}"));
        }
        let uri: Option<http::Uri> = annotation.parse().ok();
        if uri.is_some_and(|uri| uri.scheme().is_some() && uri.host().is_some_and(|host| !host.is_empty())) {
            return (Self::Approved, format!("approved in {annotation}"));
        }
        (Self::Invalid, format!("{asked} with either a URL or a reason starting with \"unapproved\", {SEE}"))
    }

    /// Of a definition.
    pub fn of(definition: &Value) -> (Self, String) {
        Self::read(text(definition))
    }

    /// The condition's status and reason.
    pub fn condition(self) -> (&'static str, &'static str) {
        match self {
            Self::Missing => ("False", "MissingAnnotation"),
            Self::Invalid => ("False", "InvalidAnnotation"),
            Self::Bypassed => ("False", "UnapprovedAnnotation"),
            Self::Approved => ("True", "ApprovedAnnotation"),
        }
    }
}

/// The annotation of a definition.
pub fn text(definition: &Value) -> &str {
    let annotations = definition.get("metadata").and_then(|metadata| metadata.get("annotations"));
    annotations.and_then(|all| all.get(ANNOTATION)).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_of_the_project_are_protected_and_urls_approve() {
        assert!(is_protected("k8s.io") && is_protected("x.kubernetes.io"));
        assert!(!is_protected("example.com") && !is_protected("ak8s.io"));
        let read = |text| Approval::read(text).0;
        assert_eq!(read(""), Approval::Missing);
        assert_eq!(read("unapproved, testing"), Approval::Bypassed);
        assert_eq!(read("https://github.com/kubernetes/kubernetes/pull/78458"), Approval::Approved);
        assert_eq!(read("surely"), Approval::Invalid);
    }
}
