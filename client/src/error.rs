//! Telling the server's answers apart, by code and reason and never by message.

/// Whether the server said that there is no such object.
pub fn is_not_found(error: &kube::Error) -> bool {
    code_of(error) == Some(404)
}

/// Whether the server refused a write because the object had changed, or a create because the name is taken.
pub fn is_conflict(error: &kube::Error) -> bool {
    code_of(error) == Some(409)
}

/// Whether the server said that an object of this name is there already.
pub fn is_already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists")
}

/// Whether the server found the object itself at fault.
pub fn is_invalid(error: &kube::Error) -> bool {
    code_of(error) == Some(422)
}

/// Whether the server does not let us.
pub fn is_forbidden(error: &kube::Error) -> bool {
    code_of(error) == Some(403)
}

/// Whether a create was refused because its namespace is going away, so that trying again is useless.
pub fn is_namespace_terminating(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403
        && status.details.as_ref().is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating")))
}

fn code_of(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// What to tell a user: the server's own message if it sent one.
pub fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}
