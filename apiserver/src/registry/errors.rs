//! From the errors of other layers to the Status a client gets.

use knarr_api::field::ErrorList;
use knarr_api::status::Status;
use knarr_storage::Error as StoreError;

/// `422 Invalid` when there is anything wrong.
pub fn invalid(group: &str, kind: &str, name: &str, errors: ErrorList) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(group, kind, name, errors.causes()))
}

/// What a client is told when the store refuses or fails.
pub fn store_failure(error: StoreError) -> Status {
    match error {
        StoreError::Compacted { requested, oldest } => {
            Status::expired(format!("too old resource version: {requested} ({oldest})"))
        }
        StoreError::Future { requested, current } => {
            Status::resource_version_too_large(requested.0, current.0, 1)
        }
        StoreError::Closed => Status::service_unavailable("the server is shutting down"),
        StoreError::NoSpace { .. }
        | StoreError::Lagged(_)
        | StoreError::Unreadable { .. }
        | StoreError::InUse { .. }
        | StoreError::Unavailable { .. } => Status::internal(error),
    }
}
