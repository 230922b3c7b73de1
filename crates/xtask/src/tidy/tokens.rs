//! A file as a flat list of tokens. Comments are gone, strings are one token each, and brackets are tokens of their own,
//! so that a rule can look for a sequence such as `.unwrap()`, inside macros too.

use proc_macro2::{Delimiter, LineColumn, TokenStream, TokenTree};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name or keyword.
    Word,
    /// A number, string or character.
    Literal,
    /// One sign, or one half of a pair of brackets.
    Sign,
}

/// One token.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
    /// Where it starts: line from 1, column from 0.
    pub(super) at: LineColumn,
}

/// All tokens of `stream`, in the order of the text.
pub(super) fn flatten(stream: TokenStream) -> Vec<Token> {
    let mut tokens = Vec::new();
    flatten_into(stream, &mut tokens);
    tokens
}

fn flatten_into(stream: TokenStream, tokens: &mut Vec<Token>) {
    for tree in stream {
        let at = tree.span().start();
        match tree {
            TokenTree::Ident(word) => tokens.push(Token { kind: Kind::Word, text: word.to_string(), at }),
            TokenTree::Punct(sign) => tokens.push(Token { kind: Kind::Sign, text: sign.to_string(), at }),
            TokenTree::Literal(literal) => {
                tokens.push(Token { kind: Kind::Literal, text: literal.to_string(), at });
            }
            TokenTree::Group(group) => {
                let (open, close) = brackets(group.delimiter());
                tokens.push(Token { kind: Kind::Sign, text: open.to_owned(), at });
                flatten_into(group.stream(), tokens);
                let at = group.span_close().start();
                tokens.push(Token { kind: Kind::Sign, text: close.to_owned(), at });
            }
        }
    }
}

fn brackets(delimiter: Delimiter) -> (&'static str, &'static str) {
    match delimiter {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::None => ("", ""),
    }
}

/// Where in `tokens` this sequence of texts starts, each time.
pub(super) fn occurrences<'a>(
    tokens: &'a [&'a Token],
    sequence: &'a [&'a str],
) -> impl Iterator<Item = &'a Token> {
    tokens
        .windows(sequence.len())
        .filter(move |window| window.iter().zip(sequence).all(|(token, text)| token.text == *text))
        .filter_map(|window| window.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_sequences_in_macros_but_not_in_strings_or_comments() {
        let text = "// x.unwrap()\nfn f() { let s = \".unwrap()\"; vec![a.unwrap()]; }";
        let tokens = flatten(text.parse().expect("it lexes"));
        let tokens: Vec<&Token> = tokens.iter().collect();
        let lines: Vec<usize> =
            occurrences(&tokens, &[".", "unwrap", "(", ")"]).map(|token| token.at.line).collect();
        assert_eq!(lines, [2]);
    }
}
