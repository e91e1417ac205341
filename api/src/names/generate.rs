//! Names the server makes up.

use crate::time::Random;

/// Letters and digits of generated suffixes: no vowels, so that no words form.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// Longest part of a generateName that is kept, in bytes.
pub const MAX_GENERATED_NAME: usize = 63 - SUFFIX_LENGTH;

/// A name from `generateName`: cut to [`MAX_GENERATED_NAME`] bytes, then five random characters.
pub fn generate_name(base: &str, random: &dyn Random) -> String {
    let mut end = base.len().min(MAX_GENERATED_NAME);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &base[..end], random_suffix(SUFFIX_LENGTH, random))
}

/// `length` random characters of the suffix alphabet.
pub fn random_suffix(length: usize, random: &dyn Random) -> String {
    (0..length).map(|_| char::from(ALPHABET[random.below(ALPHABET.len() as u64) as usize])).collect()
}

/// `text` with every character replaced by one of the suffix alphabet, as hashes in names are written.
pub fn safe_encode(text: &str) -> String {
    text.chars().map(|c| char::from(ALPHABET[c as usize % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SeededRandom;

    #[test]
    fn generated_names_fit_a_label() {
        let random = SeededRandom::new(1);
        let name = generate_name("web-", &random);
        assert!(
            name.starts_with("web-") && name.len() == 9 && name[4..].bytes().all(|b| ALPHABET.contains(&b))
        );
        assert_eq!(generate_name(&"a".repeat(80), &random).len(), 63);
        assert!(generate_name(&"\u{e9}".repeat(80), &random).len() <= 63);
    }

    #[test]
    fn hashes_are_encoded_as_upstream_does() {
        assert_eq!(safe_encode("0123456789"), "456789bcdf");
    }
}
