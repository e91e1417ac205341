//! Where in an object a value sits, as people write it: `spec.containers[0].name`, `metadata.labels[app]`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A path from the root of an object to one of its fields. Children share their parents, so extending and
/// cloning are cheap; the text is made only when an error is.
#[derive(Clone, Debug, Default)]
pub struct Path(Option<Arc<Node>>);

#[derive(Debug)]
struct Node {
    step: Step,
    parent: Path,
}

#[derive(Debug)]
enum Step {
    Child(Cow<'static, str>),
    Key(Cow<'static, str>),
    Index(usize),
}

impl Path {
    /// A path that starts at the field `name`.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self::nil().child(name)
    }

    /// The path to nowhere, upstream's nil path. It renders as `<nil>`; its children render as roots.
    pub const fn nil() -> Self {
        Self(None)
    }

    /// The field `name` of the object at this path.
    pub fn child(&self, name: impl Into<Cow<'static, str>>) -> Self {
        self.step(Step::Child(name.into()))
    }

    /// The entry `key` of the map at this path.
    pub fn key(&self, key: impl Into<Cow<'static, str>>) -> Self {
        self.step(Step::Key(key.into()))
    }

    /// The element `index` of the list at this path.
    pub fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    fn step(&self, step: Step) -> Self {
        Self(Some(Arc::new(Node { step, parent: self.clone() })))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nodes = Vec::new();
        let mut at = self;
        while let Some(node) = at.0.as_deref() {
            nodes.push(node);
            at = &node.parent;
        }
        if nodes.is_empty() {
            return f.write_str("<nil>");
        }
        for node in nodes.into_iter().rev() {
            match &node.step {
                Step::Child(name) if name.is_empty() => f.write_str("[]")?,
                Step::Child(name) => {
                    if node.parent.0.is_some() {
                        f.write_str(".")?;
                    }
                    f.write_str(name)?;
                }
                Step::Key(key) => write!(f, "[{key}]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_render_as_people_write_them() {
        let containers = Path::new("spec").child("containers");
        assert_eq!(containers.index(0).child("name").to_string(), "spec.containers[0].name");
        assert_eq!(Path::new("metadata").child("labels").key("a.b/c").to_string(), "metadata.labels[a.b/c]");
        assert_eq!(Path::nil().to_string(), "<nil>");
        assert_eq!(Path::nil().child("key").to_string(), "key");
        assert_eq!(Path::nil().index(3).to_string(), "[3]");
    }
}
