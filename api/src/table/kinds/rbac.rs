//! Role bindings.

use super::super::Cell;
use super::super::view::join;
use super::View;

pub(super) fn binding(object: View<'_>) -> Vec<Cell<'_>> {
    let role = object.at("roleRef");
    let named = |kind: &'static str| {
        let subjects = object.items("subjects").filter(move |subject| subject.str("kind") == kind);
        Cell::from(join(subjects.map(|subject| subject.str("name")), ", "))
    };
    let accounts = object.items("subjects").filter(|subject| subject.str("kind") == "ServiceAccount");
    let accounts = accounts.map(|account| match account.str("namespace") {
        "" => account.str("name").to_owned(),
        namespace => format!("{namespace}/{}", account.str("name")),
    });
    vec![
        object.name(),
        format!("{}/{}", role.str("kind"), role.str("name")).into(),
        object.age(),
        named("User"),
        named("Group"),
        join(accounts, ", ").into(),
    ]
}
