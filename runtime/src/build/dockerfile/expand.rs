//! Variables and quotes in a word, as Docker reads them: `$name`, `${name}`, `${name:-word}` and its sisters.

use std::iter::Peekable;
use std::str::Chars;

/// Words in words.
const MAX_DEPTH: usize = 10;
/// Longest result, in bytes: variables can hold variables' values many times over.
const MAX_RESULT: usize = 1 << 20;

/// Replaces variables and takes quotes away. `lookup` gives a variable's value; unset ones are empty.
pub fn expand(word: &str, escape: char, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut reader =
        Expander { chars: word.chars().peekable(), escape, lookup, out: String::new(), depth: 0 };
    reader.until(None)?;
    Ok(reader.out)
}

struct Expander<'a> {
    chars: Peekable<Chars<'a>>,
    escape: char,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    out: String,
    depth: usize,
}

impl Expander<'_> {
    /// Up to `end` (which is taken), or to the end of the word.
    fn until(&mut self, end: Option<char>) -> Result<(), String> {
        while let Some(c) = self.chars.next() {
            match c {
                c if Some(c) == end => return Ok(()),
                '\'' => self.single()?,
                '"' => self.double()?,
                '$' => self.variable()?,
                c if c == self.escape => {
                    if let Some(next) = self.chars.next() {
                        self.push(next)?;
                    }
                }
                c => self.push(c)?,
            }
        }
        match end {
            Some(end) => Err(format!("unexpected end of statement while looking for matching {end}")),
            None => Ok(()),
        }
    }

    fn push(&mut self, c: char) -> Result<(), String> {
        self.out.push(c);
        self.check()
    }

    fn check(&self) -> Result<(), String> {
        if self.out.len() > MAX_RESULT {
            return Err(format!("the value is longer than {MAX_RESULT} bytes"));
        }
        Ok(())
    }

    fn single(&mut self) -> Result<(), String> {
        loop {
            match self.chars.next() {
                Some('\'') => return Ok(()),
                Some(c) => self.push(c)?,
                None => {
                    return Err("unexpected end of statement while looking for matching single-quote".into());
                }
            }
        }
    }

    fn double(&mut self) -> Result<(), String> {
        loop {
            match self.chars.next() {
                Some('"') => return Ok(()),
                Some('$') => self.variable()?,
                Some(c) if c == self.escape => match self.chars.next() {
                    // Only these need quoting in double quotes.
                    Some(next) if next == '"' || next == '$' || next == self.escape => self.push(next)?,
                    Some(next) => {
                        self.push(c)?;
                        self.push(next)?;
                    }
                    None => {}
                },
                Some(c) => self.push(c)?,
                None => {
                    return Err("unexpected end of statement while looking for matching double-quote".into());
                }
            }
        }
    }

    fn variable(&mut self) -> Result<(), String> {
        if self.chars.peek() != Some(&'{') {
            let name = self.name();
            if name.is_empty() {
                return self.push('$');
            }
            let value = (self.lookup)(&name).unwrap_or_default();
            self.out.push_str(&value);
            return self.check();
        }
        self.chars.next();
        let name = self.name();
        if name.is_empty() {
            return Err("bad substitution: ${} names no variable".into());
        }
        let value = (self.lookup)(&name);
        let result = match self.chars.next() {
            Some('}') => value.unwrap_or_default(),
            Some(':') => {
                let operator = self.chars.next();
                self.modified(&name, value.filter(|value| !value.is_empty()), operator)?
            }
            operator => self.modified(&name, value, operator)?,
        };
        self.out.push_str(&result);
        self.check()
    }

    /// What `-`, `+` and `?` make of a variable's value.
    fn modified(
        &mut self,
        name: &str,
        value: Option<String>,
        operator: Option<char>,
    ) -> Result<String, String> {
        let Some(operator @ ('-' | '+' | '?')) = operator else {
            return Err(format!("unsupported modifier in substitution of {name:?}"));
        };
        let word = self.word()?;
        match (operator, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', value) => Ok(value.map_or_else(String::new, |_| word)),
            (_, Some(value)) => Ok(value),
            (_, None) if word.is_empty() => Err(format!("{name}: parameter not set")),
            (_, None) => Err(format!("{name}: {word}")),
        }
    }

    /// The word up to the closing brace, expanded.
    fn word(&mut self) -> Result<String, String> {
        if self.depth == MAX_DEPTH {
            return Err("substitutions are nested too deep".into());
        }
        self.depth += 1;
        let outer = std::mem::take(&mut self.out);
        let read = self.until(Some('}'));
        let word = std::mem::replace(&mut self.out, outer);
        self.depth -= 1;
        read.map(|()| word)
    }

    /// Letters, digits and underscores, or one special character.
    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
            // `$1x` is the first parameter and an x.
            if name.len() == 1 && c.is_ascii_digit() {
                break;
            }
        }
        name
    }
}
