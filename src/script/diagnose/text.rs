//! The text of a script, cut into tokens: where Rhai's (line, character) lies in bytes, how far the token there reaches, and what
//! stands before it. It takes any text, finished or not, and never fails.

use std::collections::BTreeSet;
use std::ops::Range;

use rhai::Position;

/// A source with its tokens.
pub(crate) struct Text<'a> {
    /// All of it.
    pub(crate) source: &'a str,
    /// In order, none empty.
    pub(crate) tokens: Vec<Token>,
}

/// One token; comments and spaces are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// What it is.
    pub(crate) kind: Kind,
    /// Its bytes.
    pub(crate) span: Range<usize>,
}

/// The kinds of tokens that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name or keyword.
    Word,
    /// A whole number or a float.
    Number,
    /// A string or character, or a piece of one that holds `${…}`.
    Quoted,
    /// An operator or bracket.
    Symbol,
}

impl<'a> Text<'a> {
    /// Cuts a source into tokens.
    pub(crate) fn new(source: &'a str) -> Self {
        Self { source, tokens: Scanner { source, at: 0, tokens: Vec::new() }.run() }
    }

    /// The byte that Rhai's position means; the end of the line or text where it means more.
    pub(crate) fn offset(&self, position: Position) -> Option<usize> {
        let line = position.line()?;
        let column = position.position().unwrap_or(1);
        let mut start = 0;
        for _ in 1..line {
            match self.source[start..].find('\n') {
                Some(length) => start += length + 1,
                None => return Some(self.source.len()),
            }
        }
        let rest = &self.source[start..];
        let line = rest.split_once('\n').map_or(rest, |(line, _)| line);
        let within = line.char_indices().nth(column - 1).map_or(line.len(), |(byte, _)| byte);
        Some(start + within)
    }

    /// The token at that byte, or the first one after it.
    pub(crate) fn index_at(&self, offset: usize) -> Option<usize> {
        let index = self.tokens.partition_point(|token| token.span.end <= offset);
        (index < self.tokens.len()).then_some(index)
    }

    /// The bytes of the token at Rhai's position; nothing wide where no token is.
    pub(crate) fn span_at(&self, position: Position) -> Option<Range<usize>> {
        let offset = self.offset(position)?;
        match self.index_at(offset).map(|index| &self.tokens[index]) {
            Some(token) if token.span.start <= offset => Some(token.span.clone()),
            _ => Some(offset..offset),
        }
    }

    /// Just behind the last token that ends before this byte.
    pub(crate) fn end_before(&self, offset: usize) -> usize {
        let index = self.tokens.partition_point(|token| token.span.end <= offset);
        index.checked_sub(1).map_or(0, |index| self.tokens[index].span.end)
    }

    /// The text of the token, empty past either end.
    pub(crate) fn word(&self, index: Option<usize>) -> &'a str {
        index
            .and_then(|index| self.tokens.get(index))
            .map_or("", |token| &self.source[token.span.clone()])
    }

    /// Whether a name or keyword stands there.
    pub(crate) fn is_word(&self, index: usize) -> bool {
        self.tokens.get(index).is_some_and(|token| token.kind == Kind::Word)
    }

    /// Where the chain `a.b(1)["c"].d` starts that ends with the token `last`.
    pub(crate) fn chain_start(&self, last: usize) -> usize {
        let mut index = last;
        loop {
            // A group that belongs to what stands before it: arguments or an index.
            while let Some(open) = self.open_of(index) {
                match open.checked_sub(1) {
                    Some(before) if self.is_value_end(before) && self.word(Some(open)) != "#{" => {
                        index = before;
                    }
                    _ => return open,
                }
            }
            match index.checked_sub(1).map(|dot| (dot, self.word(Some(dot)))) {
                Some((dot, "." | "?." | "::")) if dot > 0 => index = dot - 1,
                _ => return index,
            }
        }
    }

    /// The bytes of the whole chain that has its `.`, `?.` or `[` here; `None` where another token stands.
    pub(crate) fn chain_around(&self, operator: usize) -> Option<Range<usize>> {
        if !matches!(self.word(Some(operator)), "." | "?." | "[" | "?[") {
            return None;
        }
        let first = self.chain_start(operator.checked_sub(1)?);
        let mut end = operator;
        loop {
            end = match self.word(Some(end)) {
                "." | "?." => end + 2,
                "(" | "[" | "?[" => self.close_of(end)? + 1,
                _ => break,
            };
        }
        Some(self.tokens[first].span.start..self.tokens.get(end - 1)?.span.end)
    }

    /// The text between two tokens, both included.
    pub(crate) fn between(&self, first: usize, last: usize) -> &'a str {
        match (self.tokens.get(first), self.tokens.get(last)) {
            (Some(first), Some(last)) if first.span.start <= last.span.end => {
                &self.source[first.span.start..last.span.end]
            }
            _ => "",
        }
    }

    /// The opening token of the bracket that closes at `close`.
    pub(crate) fn open_of(&self, close: usize) -> Option<usize> {
        let mut depth = 0_usize;
        if !matches!(self.word(Some(close)), ")" | "]" | "}") {
            return None;
        }
        for index in (0..=close).rev() {
            match self.word(Some(index)) {
                ")" | "]" | "}" => depth += 1,
                "(" | "[" | "?[" | "{" | "#{" => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return Some(index);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// The closing token of the bracket that opens at `open`.
    pub(crate) fn close_of(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for index in open..self.tokens.len() {
            match self.word(Some(index)) {
                "(" | "[" | "?[" | "{" | "#{" => depth += 1,
                ")" | "]" | "}" => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return Some(index);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// The last bracket that is opened and never closed.
    pub(crate) fn unclosed(&self) -> Option<usize> {
        let mut open = Vec::new();
        for index in 0..self.tokens.len() {
            match self.word(Some(index)) {
                "(" | "[" | "?[" | "{" | "#{" => open.push(index),
                ")" | "]" | "}" => {
                    open.pop();
                }
                _ => {}
            }
        }
        open.pop()
    }

    /// Functions that the text defines: name, parameters, the byte of the name.
    pub(crate) fn functions(&self) -> impl Iterator<Item = (&'a str, Vec<&'a str>, usize)> {
        (0..self.tokens.len()).filter(|index| self.word(Some(*index)) == "fn").filter_map(|index| {
            let name = self.tokens.get(index + 1).filter(|token| token.kind == Kind::Word)?;
            let close = self.close_of(index + 2)?;
            let params = (index + 3..close).filter(|index| self.is_word(*index));
            let params = params.map(|index| self.word(Some(index))).collect();
            Some((&self.source[name.span.clone()], params, name.span.start))
        })
    }

    /// Names that the text declares anywhere with `let`, `const` or `for`, or takes as parameters.
    pub(crate) fn declared(&self) -> Vec<&'a str> {
        let mut names = Vec::new();
        for index in 1..self.tokens.len() {
            if !self.is_word(index) {
                continue;
            }
            let before = self.word(Some(index - 1));
            let after = self.word(Some(index + 1));
            let bound = matches!(before, "let" | "const" | "for");
            let parameter = matches!(before, "|" | ",") && matches!(after, "|" | ",");
            if bound || parameter {
                names.push(self.word(Some(index)));
            }
        }
        names.extend(self.functions().flat_map(|(_, params, _)| params));
        names
    }

    /// Names that are declared as constants and nowhere as anything else.
    pub(crate) fn constants(&self) -> BTreeSet<&'a str> {
        let mut constants: BTreeSet<&'a str> = (1..self.tokens.len())
            .filter(|index| self.word(Some(index - 1)) == "const")
            .map(|index| self.word(Some(index)))
            .collect();
        for index in 1..self.tokens.len() {
            // `let x`, `for x`, `for (x, i)`, `catch (x)`, `|x, y|`, `fn f(x, y)`: rather too many than too few.
            if matches!(self.word(Some(index - 1)), "let" | "for" | "(" | "|" | ",") {
                constants.remove(self.word(Some(index)));
            }
        }
        constants
    }

    /// How a top-level name is declared: `const` or `let`.
    pub(crate) fn declared_at_top(&self, name: &str) -> Option<&'a str> {
        let mut depth = 0_usize;
        for index in 0..self.tokens.len() {
            match self.word(Some(index)) {
                "(" | "[" | "?[" | "{" | "#{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                keyword @ ("let" | "const") if depth == 0 && self.word(Some(index + 1)) == name => {
                    return Some(keyword);
                }
                _ => {}
            }
        }
        None
    }

    /// The function whose body holds this byte.
    pub(crate) fn function_around(&self, offset: usize) -> Option<&'a str> {
        for index in 0..self.tokens.len() {
            if self.word(Some(index)) != "fn" || self.tokens[index].span.start > offset {
                continue;
            }
            let body = self.close_of(index + 2).map(|close| close + 1)?;
            let end = self.close_of(body).map_or(usize::MAX, |close| self.tokens[close].span.end);
            if offset < end {
                return Some(self.word(Some(index + 1)));
            }
        }
        None
    }

    fn is_value_end(&self, index: usize) -> bool {
        match self.tokens.get(index).map(|token| token.kind) {
            Some(Kind::Word) => !matches!(
                self.word(Some(index)),
                "return" | "in" | "if" | "while" | "throw" | "else"
            ),
            Some(Kind::Quoted) => true,
            Some(Kind::Symbol) => matches!(self.word(Some(index)), ")" | "]"),
            Some(Kind::Number) | None => false,
        }
    }
}

/// One-based line and column of a byte, the column in characters.
pub(crate) fn line_and_column(source: &str, offset: usize) -> (usize, usize) {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}

/// Longest first.
const SYMBOLS: [&str; 33] = [
    "..=", "**=", "<<=", ">>=", "===", "!==", "&&", "||", "==", "!=", "<=", ">=", "..", "::", "=>",
    "->", "??", "?.", "?[", "+=", "-=", "*=", "/=", "%=", "**", "<<", ">>", "|=", "&=", "^=", "++",
    "--", "#{",
];

struct Scanner<'a> {
    source: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

impl Scanner<'_> {
    fn run(mut self) -> Vec<Token> {
        // For each `${` that is open: how many braces are open within it.
        let mut within: Vec<usize> = Vec::new();
        while let Some(letter) = self.rest().chars().next() {
            let start = self.at;
            match letter {
                _ if letter.is_whitespace() => self.at += letter.len_utf8(),
                '/' if self.rest().starts_with("//") => self.skip_line(),
                '/' if self.rest().starts_with("/*") => self.block_comment(),
                '"' => self.quoted('"'),
                '\'' => self.quoted('\''),
                '#' if self.raw_string() => self.push(Kind::Quoted, start),
                '`' => {
                    self.at += 1;
                    self.back_ticked(start, &mut within);
                }
                '}' if within.last() == Some(&0) => {
                    within.pop();
                    self.at += 1;
                    self.back_ticked(start, &mut within);
                }
                _ if letter.is_ascii_digit() => self.number(),
                _ if letter == '_' || letter.is_alphanumeric() => {
                    self.while_letters(|letter| letter == '_' || letter.is_alphanumeric());
                    self.push(Kind::Word, start);
                }
                _ => {
                    let symbol = SYMBOLS.iter().find(|symbol| self.rest().starts_with(**symbol));
                    self.at += symbol.map_or(letter.len_utf8(), |symbol| symbol.len());
                    if let Some(depth) = within.last_mut() {
                        match &self.source[start..self.at] {
                            "{" | "#{" => *depth += 1,
                            "}" => *depth = depth.saturating_sub(1),
                            _ => {}
                        }
                    }
                    self.push(Kind::Symbol, start);
                }
            }
        }
        self.tokens
    }

    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn push(&mut self, kind: Kind, start: usize) {
        self.tokens.push(Token { kind, span: start..self.at });
    }

    fn while_letters(&mut self, accept: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|letter| !accept(letter)).unwrap_or(rest.len());
    }

    fn skip_line(&mut self) {
        self.while_letters(|letter| letter != '\n');
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while let Some(letter) = self.rest().chars().next() {
            if self.rest().starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if self.rest().starts_with("*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return;
                }
            } else {
                self.at += letter.len_utf8();
            }
        }
    }

    /// A string or character up to its closing quote or, unfinished, to the end of the line.
    fn quoted(&mut self, quote: char) {
        let start = self.at;
        self.at += 1;
        let mut escaped = false;
        while let Some(letter) = self.rest().chars().next() {
            if letter == '\n' && !escaped {
                break;
            }
            self.at += letter.len_utf8();
            if letter == quote && !escaped {
                break;
            }
            escaped = letter == '\\' && !escaped;
        }
        self.push(Kind::Quoted, start);
    }

    /// `#"…"#`: moves past it, and tells whether there was one.
    fn raw_string(&mut self) -> bool {
        let rest = self.rest();
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        if !rest[hashes..].starts_with('"') {
            return false;
        }
        let close = format!("\"{}", "#".repeat(hashes));
        let body = hashes + 1;
        self.at += rest[body..].find(&close).map_or(rest.len(), |end| body + end + close.len());
        true
    }

    /// A piece of a back-ticked string, up to `${` or the closing tick.
    fn back_ticked(&mut self, start: usize, within: &mut Vec<usize>) {
        loop {
            let rest = self.rest();
            match rest.chars().next() {
                None => break,
                Some('`') if rest.starts_with("``") => self.at += 2,
                Some('`') => {
                    self.at += 1;
                    break;
                }
                Some('$') if rest.starts_with("${") => {
                    self.at += 2;
                    within.push(0);
                    break;
                }
                Some(letter) => self.at += letter.len_utf8(),
            }
        }
        self.push(Kind::Quoted, start);
    }

    fn number(&mut self) {
        let start = self.at;
        self.while_letters(|letter| letter == '_' || letter.is_ascii_alphanumeric());
        let mut after = self.rest().chars();
        if after.next() == Some('.') && after.next().is_some_and(|letter| letter.is_ascii_digit()) {
            self.at += 1;
            self.while_letters(|letter| letter == '_' || letter.is_ascii_alphanumeric());
        }
        self.push(Kind::Number, start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, expected: &[&str]) {
        let text = Text::new(source);
        let words: Vec<&str> = (0..text.tokens.len()).map(|index| text.word(Some(index))).collect();
        assert_eq!(words, expected, "{source}");
    }

    #[test]
    fn comments_and_spaces_are_no_tokens() {
        check("a /* b /* c */ d */ + 1.5 // x\nz", &["a", "+", "1.5", "z"]);
        check("1..3 x?.y?[0]", &["1", "..", "3", "x", "?.", "y", "?[", "0", "]"]);
    }

    #[test]
    fn strings_are_one_token_and_what_stands_in_them_is_not_code() {
        check(r#"f("a\"b;", 'c') // "#, &["f", "(", r#""a\"b;""#, ",", "'c'", ")"]);
        check("\"open\nlet", &["\"open", "let"]);
        check("#\"a\"b\"# x", &["#\"a\"b\"#", "x"]);
        check(
            "`a ${x + #{y: 1}.y} b` z",
            &["`a ${", "x", "+", "#{", "y", ":", "1", "}", ".", "y", "} b`", "z"],
        );
    }

    #[test]
    fn a_position_counts_characters_and_the_span_counts_bytes() {
        let text = Text::new("let ä = \"ö\";\r\n  foo(1)");
        let span = |line, column| text.span_at(Position::new(line, column)).unwrap();
        assert_eq!(&text.source[span(1, 9)], "\"ö\"");
        assert_eq!(&text.source[span(2, 3)], "foo");
        assert_eq!(span(9, 9), text.source.len()..text.source.len());
        assert_eq!(line_and_column(text.source, span(2, 3).start), (2, 3));
    }

    #[test]
    fn a_chain_is_found_from_its_end() {
        let chain = |source: &str| {
            let text = Text::new(source);
            let last = text.tokens.len() - 1;
            text.between(text.chain_start(last), last).to_owned()
        };
        assert_eq!(chain("x = event.data.usr"), "event.data.usr");
        assert_eq!(chain("return f(1, g(2))[\"a\"].b"), "f(1, g(2))[\"a\"].b");
        assert_eq!(chain("if (a + b).c"), "(a + b).c");
        assert_eq!(chain("x = #{ a: 1 }.b"), "#{ a: 1 }.b");
        assert_eq!(chain("y = [1, 2]"), "[1, 2]");
        let text = Text::new("if a.b(1)?.c[2].d { }");
        assert_eq!(&text.source[text.chain_around(2).unwrap()], "a.b(1)?.c[2].d");
        assert_eq!(text.chain_around(1), None);
    }

    #[test]
    fn functions_and_declarations_are_found_in_unfinished_text() {
        let text = Text::new("const A = 1; fn save(a, b) { let c = A; |d, e| c } let z = (");
        let functions: Vec<_> = text.functions().map(|(name, params, _)| (name, params)).collect();
        assert_eq!(functions, [("save", vec!["a", "b"])]);
        assert_eq!(text.declared_at_top("A"), Some("const"));
        assert_eq!(text.declared_at_top("c"), None);
        assert_eq!(text.function_around(text.source.find("c = A").unwrap()), Some("save"));
        assert_eq!(text.function_around(0), None);
        assert!(
            ["A", "c", "d", "e", "z", "a", "b"].iter().all(|name| text.declared().contains(name))
        );
    }
}
