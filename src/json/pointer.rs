//! JSON pointers (RFC 6901): how schemes and config name a value inside a body.

use std::fmt;
use std::str::FromStr;

/// A JSON pointer (RFC 6901), as the names on its way. The empty one names the whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer(Box<[Box<str>]>);

impl Pointer {
    /// Its parts, decoded, from the top level down.
    pub(crate) fn names(&self) -> &[Box<str>] {
        &self.0
    }
}

/// Why a text is no JSON pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PointerError {
    /// Its first character is not `/`.
    #[error("a JSON pointer starts with `/`, as in `/data/id`")]
    NoSlash,
    /// A `~` with neither 0 nor 1 after it.
    #[error("in a JSON pointer `~` is written `~0`, and a `/` inside a name `~1`")]
    Tilde,
}

impl FromStr for Pointer {
    type Err = PointerError;

    fn from_str(text: &str) -> Result<Self, PointerError> {
        if text.is_empty() {
            return Ok(Self(Box::default()));
        }
        let names = text.strip_prefix('/').ok_or(PointerError::NoSlash)?;
        names.split('/').map(unescape).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|name| {
            write!(formatter, "/{}", name.replace('~', "~0").replace('/', "~1"))
        })
    }
}

fn unescape(name: &str) -> Result<Box<str>, PointerError> {
    if !name.contains('~') {
        return Ok(name.into());
    }
    let mut plain = String::with_capacity(name.len());
    let mut characters = name.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '~' => match characters.next() {
                Some('0') => '~',
                Some('1') => '/',
                _ => return Err(PointerError::Tilde),
            },
            other => other,
        });
    }
    Ok(plain.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_written_as_it_was_read() {
        for text in ["", "/", "/data/id", "/a~1b/~0~01"] {
            assert_eq!(text.parse::<Pointer>().unwrap().to_string(), text);
        }
        assert_eq!("data".parse::<Pointer>(), Err(PointerError::NoSlash));
        assert_eq!("/a~2".parse::<Pointer>(), Err(PointerError::Tilde));
        assert_eq!("/a~".parse::<Pointer>(), Err(PointerError::Tilde));
    }
}
