//! Names of operations: words that Rhai takes after a dot, joined with dots.

/// What Rhai keeps for itself, so that `x.default` does not parse (tried, not read).
const RESERVED: [&str; 54] = [
    "sync",
    "null",
    "module",
    "true",
    "false",
    "as",
    "in",
    "if",
    "else",
    "do",
    "while",
    "until",
    "for",
    "loop",
    "fn",
    "let",
    "const",
    "is",
    "this",
    "use",
    "case",
    "match",
    "switch",
    "try",
    "catch",
    "throw",
    "return",
    "continue",
    "break",
    "yield",
    "goto",
    "import",
    "export",
    "private",
    "public",
    "protected",
    "package",
    "static",
    "shared",
    "go",
    "thread",
    "super",
    "var",
    "void",
    "nil",
    "print",
    "debug",
    "eval",
    "type_of",
    "curry",
    "default",
    "new",
    "with",
    "call",
];
/// What every provider has itself.
const OF_PROVIDERS: [&str; 9] =
    ["get", "post", "put", "patch", "delete", "request", "is_healthy", "health", "name"];

/// Names of one way down: no API is deeper, and nobody writes more dots.
const DEPTH_MAX: usize = 6;
/// Bytes of a whole name.
const BYTES_MAX: usize = 128;

/// Why a name cannot be one of an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NameError {
    #[error("`{0}` is no name: letters, digits and `_`, and no digit first")]
    NotAWord(String),
    #[error("Rhai keeps `{0}` for itself, so it does not parse after a dot")]
    Reserved(String),
    #[error("every provider has a `{0}` of its own")]
    OfProviders(String),
    #[error("a name has at most {DEPTH_MAX} words and {BYTES_MAX} bytes")]
    TooLong,
}

/// Whether scripts can write `provider.NAME(…)`.
pub(super) fn check(name: &str) -> Result<(), NameError> {
    if name.len() > BYTES_MAX || name.split('.').count() > DEPTH_MAX {
        return Err(NameError::TooLong);
    }
    for (depth, word) in name.split('.').enumerate() {
        let is_word = word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_word {
            return Err(NameError::NotAWord(word.to_owned()));
        }
        if RESERVED.contains(&word) {
            return Err(NameError::Reserved(word.to_owned()));
        }
        if depth == 0 && OF_PROVIDERS.contains(&word) {
            return Err(NameError::OfProviders(word.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_words_that_parse_after_a_dot() {
        for name in ["customers.create", "charge", "a.b.c.delete", "x.list", "v2.get"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for name in ["invoices.void", "a.new", "call", "x.default", "a.module.b"] {
            assert!(matches!(check(name), Err(NameError::Reserved(_))), "{name}");
        }
        for name in ["", "a.", ".a", "a-b", "2fa", "a b", "_", "é"] {
            assert!(matches!(check(name), Err(NameError::NotAWord(_))), "{name}");
        }
        assert!(matches!(check("get.user"), Err(NameError::OfProviders(_))));
        assert_eq!(check("a.b.c.d.e.f.g"), Err(NameError::TooLong));
    }
}
