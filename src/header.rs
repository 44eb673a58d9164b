//! What the name of a header may be, for whoever takes one from config, a descriptor or a script.

/// Whether it is a token (RFC 9110, section 5.6.2), in either case.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn a_name_is_a_token() {
        for name in ["x-api-key", "X_Key.1", "a", "!#$%&'*+-.^_`|~"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a b", "a:", "é", "a\r\n", "(a)"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
