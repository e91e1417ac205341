//! What `--chmod` says: an octal mode, or changes to the source's own as chmod(1) reads them (`u=rwX,go-w`).

use super::{Error, Result};

/// Kept from whoever is not named: `+w` is not for everyone.
const UMASK: u32 = 0o022;
const SET_IDS: u32 = 0o6000;
const EXECUTE: u32 = 0o111;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    Bits(u32),
    Changes(Vec<Change>),
}

/// One operator with what stands on its sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Bits of those who are named; `None` where nobody is, which is everyone less the umask.
    who: Option<u32>,
    operator: Operator,
    bits: u32,
    /// `X`: execute, where that makes sense already.
    execute: bool,
    /// The permissions of these, by bits.
    copied: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

impl Chmod {
    pub fn parse(text: &str) -> Result<Self> {
        let read = if text.starts_with(|first: char| first.is_ascii_digit()) {
            u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).map(Chmod::Bits)
        } else {
            let clauses: Option<Vec<Vec<Change>>> = text.split(',').map(clause).collect();
            clauses.map(|clauses| Chmod::Changes(clauses.concat()))
        };
        read.ok_or_else(|| {
            Error::Invalid(format!("invalid --chmod {text:?}: it must be octal, or symbolic as u=rwX,go-w"))
        })
    }

    /// The mode of what has this one.
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Chmod::Bits(bits) => *bits,
            Chmod::Changes(changes) => {
                changes.iter().fold(mode, |mode, change| change.apply(mode, directory))
            }
        }
    }
}

impl Change {
    fn apply(&self, mode: u32, directory: bool) -> u32 {
        let mut bits = self.bits;
        if self.execute && (directory || mode & EXECUTE != 0) {
            bits |= EXECUTE;
        }
        if let Some(from) = self.copied {
            // Whoever has them: the same for all three.
            bits = [0o444, 0o222, 0o111].into_iter().filter(|kind| mode & from & kind != 0).sum();
        }
        bits &= self.who.unwrap_or(!UMASK);
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            Operator::Set => {
                // A directory keeps these unless they are named.
                let kept = if directory { SET_IDS & !self.bits } else { 0 };
                mode & (!self.who.unwrap_or(0o7777) | kept) | bits
            }
        }
    }
}

/// `[ugoa]*([-+=]([rwxXst]*|[ugo]))+`; `None`: it is not.
fn clause(text: &str) -> Option<Vec<Change>> {
    let named = text.find(['+', '-', '='])?;
    let (names, mut rest) = text.split_at(named);
    let who = names.chars().try_fold(0, |who, name| Some(who | class(name)?))?;
    let who = (!names.is_empty()).then_some(who);
    let mut changes = Vec::new();
    while let Some(operator) = rest.chars().next() {
        let operator = match operator {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            _ => Operator::Set,
        };
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
        let permissions = &rest[1..end];
        rest = &rest[end..];
        let mut change = Change { who, operator, bits: 0, execute: false, copied: None };
        match permissions {
            "u" | "g" | "o" => change.copied = permissions.chars().next().and_then(class),
            letters => letters.chars().try_for_each(|letter| change.permit(letter))?,
        }
        changes.push(change);
    }
    Some(changes)
}

impl Change {
    fn permit(&mut self, letter: char) -> Option<()> {
        match letter {
            'r' => self.bits |= 0o444,
            'w' => self.bits |= 0o222,
            'x' => self.bits |= EXECUTE,
            'X' => self.execute = true,
            's' => self.bits |= SET_IDS,
            't' => self.bits |= 0o1000,
            _ => return None,
        }
        Some(())
    }
}

/// All bits that are somebody's.
fn class(name: char) -> Option<u32> {
    Some(match name {
        'u' => 0o4700,
        'g' => 0o2070,
        'o' => 0o1007,
        'a' => 0o7777,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_chmod_changes_them() {
        for (text, before, after) in [
            ("750", 0o644, 0o750),
            ("u+x", 0o644, 0o744),
            ("+x", 0o644, 0o755),
            ("+w", 0o444, 0o644),
            ("=rw", 0o777, 0o644),
            ("a=rw", 0o777, 0o666),
            ("go-rwx", 0o755, 0o700),
            ("u=rwX,go=rX", 0o644, 0o644),
            ("u=rwX,go=rX", 0o700, 0o755),
            ("g=u", 0o640, 0o660),
            ("o=g-w", 0o664, 0o664),
            ("u+s,o+t", 0o755, 0o5755),
            ("ug+s", 0o755, 0o6755),
            ("a=", 0o4755, 0),
        ] {
            assert_eq!(
                Chmod::parse(text).expect("a mode").apply(before, false),
                after,
                "{text} of {before:o}"
            );
        }
    }

    #[test]
    fn directories_may_be_entered_and_keep_their_group() {
        let apply = |text: &str, mode| Chmod::parse(text).expect("a mode").apply(mode, true);
        assert_eq!(apply("a=rX", 0o2700), 0o2555);
        assert_eq!(apply("g=rs", 0o700), 0o2740);
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in ["", "8", "10000", "u", "x", "u+q", "q+x", "u+x,", ",u+x", "+7", "é=x", "u=é", "u=gx"] {
            assert!(Chmod::parse(text).is_err(), "{text:?}");
        }
    }
}
