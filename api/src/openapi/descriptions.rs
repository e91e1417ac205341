//! The texts of `kubectl explain`: compressed in the binary, unpacked for the time a document is built.

use std::collections::HashMap;
use std::io::Read;

use flate2::read::ZlibDecoder;

/// Deflated lines `full type name TAB {"": type, field: text}`.
static PACKED: &[u8] = include_bytes!("../../facts/descriptions.jsonl.z");

/// All texts, unpacked; those of one type are parsed when asked for.
pub(super) struct Descriptions {
    text: String,
    /// Where each type's line begins after its name, sorted by name.
    lines: Vec<(std::ops::Range<usize>, std::ops::Range<usize>)>,
}

/// The texts of one type by field; the type's own is under the empty name.
pub(super) type OfType = HashMap<String, String>;

impl Descriptions {
    pub(super) fn unpack() -> Self {
        let mut text = String::new();
        ZlibDecoder::new(PACKED)
            .read_to_string(&mut text)
            .expect("the generator deflates UTF-8, and a test unpacks it");
        let mut lines = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let end = start + line.len();
            if let Some(tab) = line.find('\t') {
                lines.push((start..start + tab, start + tab + 1..end));
            }
            start = end;
        }
        Self { text, lines }
    }

    pub(super) fn of(&self, type_name: &str) -> OfType {
        let found = self.lines.binary_search_by(|(name, _)| self.text[name.clone()].cmp(type_name));
        found
            .ok()
            .and_then(|at| serde_json::from_str(&self.text[self.lines[at].1.clone()]).ok())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_found_and_parses() {
        let descriptions = Descriptions::unpack();
        assert!(descriptions.lines.len() > 700);
        for (name, _) in &descriptions.lines {
            assert!(!descriptions.of(&descriptions.text[name.clone()]).is_empty());
        }
        let pod = descriptions.of("io.k8s.api.core.v1.PodSpec");
        assert!(pod["containers"].starts_with("List of containers belonging to the pod."));
        assert!(descriptions.of("nothing").is_empty());
    }
}
