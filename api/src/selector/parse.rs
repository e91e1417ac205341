//! The text form of label selectors: `app=web,tier in (a, b),!legacy,replicas>3`.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::field::Path;

use super::label::{Operator, Requirement, Selector, SelectorError, invalid_key};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    End,
    Close,
    Open,
    Comma,
    Not,
    Operator(Operator),
    Word(&'a str),
}

/// Splits a selector into tokens, each with its text.
struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn next(&mut self) -> (Token<'a>, &'a str) {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(|b| is_blank(*b)) {
            self.at += 1;
        }
        match bytes.get(self.at) {
            None | Some(0) => (Token::End, ""),
            Some(b) if is_symbol(*b) => self.symbol(),
            Some(_) => self.word(),
        }
    }

    fn symbol(&mut self) -> (Token<'a>, &'a str) {
        const SYMBOLS: [(&str, Token<'static>); 9] = [
            ("==", Token::Operator(Operator::DoubleEquals)),
            ("!=", Token::Operator(Operator::NotEquals)),
            ("=", Token::Operator(Operator::Equals)),
            ("!", Token::Not),
            (">", Token::Operator(Operator::GreaterThan)),
            ("<", Token::Operator(Operator::LessThan)),
            (",", Token::Comma),
            ("(", Token::Open),
            (")", Token::Close),
        ];
        let rest = &self.text[self.at..];
        let found = SYMBOLS.iter().find(|(symbol, _)| rest.starts_with(symbol));
        let (symbol, token) = *found.expect("every symbol byte begins a symbol");
        self.at += symbol.len();
        (token, symbol)
    }

    fn word(&mut self) -> (Token<'a>, &'a str) {
        let start = self.at;
        let rest = self.text[start..].bytes();
        self.at += rest.take_while(|b| *b != 0 && !is_blank(*b) && !is_symbol(*b)).count();
        let word = &self.text[start..self.at];
        if self.text.as_bytes().get(self.at) == Some(&0) {
            self.at += 1;
        }
        match word {
            "in" => (Token::Operator(Operator::In), word),
            "notin" => (Token::Operator(Operator::NotIn), word),
            _ => (Token::Word(word), word),
        }
    }
}

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

fn is_symbol(b: u8) -> bool {
    matches!(b, b'=' | b'!' | b'(' | b')' | b',' | b'>' | b'<')
}

/// A parser that looks one token ahead.
struct Parser<'a> {
    lexer: Lexer<'a>,
    ahead: (Token<'a>, &'a str),
}

fn fail<T>(message: String) -> Result<T, SelectorError> {
    Err(SelectorError(message))
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let mut lexer = Lexer { text, at: 0 };
        let ahead = lexer.next();
        Self { lexer, ahead }
    }

    /// The token ahead, with the keywords `in` and `notin` taken for words.
    fn peek(&self) -> (Token<'a>, &'a str) {
        match self.ahead {
            (Token::Operator(Operator::In | Operator::NotIn), text) => (Token::Word(text), text),
            other => other,
        }
    }

    fn take(&mut self) -> (Token<'a>, &'a str) {
        let taken = self.peek();
        self.ahead = self.lexer.next();
        taken
    }

    fn selector(mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                (Token::End, _) => return Ok(requirements),
                (Token::Word(_) | Token::Not, _) => {
                    let requirement = self.requirement();
                    requirements.push(
                        requirement.map_err(|error| {
                            SelectorError(format!("unable to parse requirement: {error}"))
                        })?,
                    );
                }
                (_, text) => {
                    return fail(format!("found '{text}', expected: !, identifier, or 'end of string'"));
                }
            }
            match self.take() {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => match self.peek() {
                    (Token::Word(_) | Token::Not, _) => {}
                    (_, text) => return fail(format!("found '{text}', expected: identifier after ','")),
                },
                (_, text) => return fail(format!("found '{text}', expected: ',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let mut first = self.take();
        let negated = first.0 == Token::Not;
        if negated {
            first = self.take();
        }
        let (Token::Word(key), _) = first else {
            return fail(format!("found '{}', expected: identifier", first.1));
        };
        if let Some(error) = invalid_key(key, &Path::nil()) {
            return fail(error.to_string());
        }
        if negated {
            return Ok(Requirement::new(key, Operator::DoesNotExist, Vec::new())?);
        }
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(Requirement::new(key, Operator::Exists, Vec::new())?);
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => BTreeSet::from([self.exact_value()?]),
        };
        Ok(Requirement::new(key, operator, values.into_iter().map(str::to_owned).collect())?)
    }

    fn operator(&mut self) -> Result<Operator, SelectorError> {
        let (token, text) = self.ahead;
        self.ahead = self.lexer.next();
        match token {
            Token::Operator(operator) => Ok(operator),
            _ => fail(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt")),
        }
    }

    fn values(&mut self) -> Result<BTreeSet<&'a str>, SelectorError> {
        let (token, text) = self.take();
        if token != Token::Open {
            return fail(format!("found '{text}' expected: '('"));
        }
        let (token, text) = self.peek();
        match token {
            Token::Word(_) | Token::Comma => {
                let values = self.list()?;
                match self.take() {
                    (Token::Close, _) => Ok(values),
                    _ => fail(format!("found '{text}', expected: ')'")),
                }
            }
            Token::Close => {
                self.take();
                Ok(BTreeSet::from([""]))
            }
            _ => fail(format!("found '{text}', expected: ',', ')' or identifier")),
        }
    }

    /// Words between commas, any of which may be missing, up to the closing parenthesis.
    fn list(&mut self) -> Result<BTreeSet<&'a str>, SelectorError> {
        let mut values = BTreeSet::new();
        loop {
            match self.take() {
                (Token::Word(word), _) => {
                    values.insert(word);
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, text) => return fail(format!("found '{text}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.insert("");
                    }
                    match self.peek().0 {
                        Token::Close => {
                            values.insert("");
                            return Ok(values);
                        }
                        Token::Comma => {
                            values.insert("");
                        }
                        _ => {}
                    }
                }
                (_, text) => return fail(format!("found '{text}', expected: ',', or identifier")),
            }
        }
    }

    fn exact_value(&mut self) -> Result<&'a str, SelectorError> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok("");
        }
        match self.take() {
            (Token::Word(word), _) => Ok(word),
            (_, text) => fail(format!("found '{text}', expected: identifier")),
        }
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Parser::new(text).selector().map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> Result<Selector, String> {
        text.parse().map_err(|error: SelectorError| error.to_string())
    }

    #[test]
    fn selectors_render_in_canonical_form() {
        let cases = [
            ("", ""),
            ("x=a,y=b,z=c", "x=a,y=b,z=c"),
            ("x!=a,y==b", "x!=a,y==b"),
            ("z, !x , y in (b,  a)", "!x,y in (a,b),z"),
            ("x notin ()", "x notin ()"),
            ("x in (,)", "x in ()"),
            ("x in (foo,,baz)", "x in (,baz,foo)"),
            ("x=", "x="),
            ("x= ,z= ", "x=,z="),
            ("x>1,z<7", "x>1,z<7"),
            ("in in (in, notin)", "in in (in,notin)"),
            ("!in", "!in"),
        ];
        for (text, canonical) in cases {
            assert_eq!(parse(text).map(|selector| selector.to_string()).as_deref(), Ok(canonical), "{text}");
        }
    }

    #[test]
    fn errors_are_upstreams() {
        let cases = [
            (",", "found ',', expected: !, identifier, or 'end of string'"),
            (
                "x=a||y=b",
                "unable to parse requirement: values[0][x]: Invalid value: \"a||y\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
            ("x==a==b", "found '==', expected: ',' or 'end of string'"),
            ("!x=a", "found '=', expected: ',' or 'end of string'"),
            (
                "x<a",
                "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
            ("x in", "unable to parse requirement: found '' expected: '('"),
            ("x y", "unable to parse requirement: found 'y', expected: in, notin, =, ==, !=, gt, lt"),
            ("x,", "found '', expected: identifier after ','"),
            ("x in (a", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
        ];
        for (text, message) in cases {
            assert_eq!(parse(text).map(|selector| selector.to_string()), Err(message.to_owned()), "{text}");
        }
        assert!(parse("-a").is_err_and(|m| {
            m.starts_with("unable to parse requirement: <nil>: Invalid value: \"-a\": name part")
        }));
    }

    #[test]
    fn requirements_match_labels() {
        let labels = json!({"app": "web", "n": "5"});
        for text in
            ["", "app=web", "app in (a,web)", "app!=x", "none!=x", "!none", "n>4,n<6", "none notin (a)"]
        {
            assert!(parse(text).is_ok_and(|selector| selector.matches(&labels)), "{text}");
        }
        for text in ["app=x", "none", "!app", "n>5", "app>1", "app notin (web)", "none=x", "none in (x)"] {
            assert!(parse(text).is_ok_and(|selector| !selector.matches(&labels)), "{text}");
        }
        assert_eq!(parse("app in (web)").expect("valid").requires_exact_match("app"), Some("web"));
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails_and_what_parses_is_stable(text in "[a-z0-9!=<>(), \\x00\u{e9}]{0,40}|(in|notin|[a-z,!()= ]){0,12}") {
            if let Ok(selector) = parse(&text) {
                let canonical = selector.to_string();
                prop_assert_eq!(parse(&canonical), Ok(selector));
            }
        }
    }
}
