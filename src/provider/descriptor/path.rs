//! The path of an operation, such as `/v1/customers/{id}`: literal text and parameters. An argument stays inside its segment, whatever is
//! in it.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stays as it is in a segment: RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Bytes of one argument: ids are short, and servers refuse a URI of more than 8 KiB.
const ARGUMENT_BYTES_MAX: usize = 1024;

/// Pieces in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(Box<[Piece]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    Parameter(Box<str>),
}

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TemplateError {
    #[error("a path begins with one `/`")]
    NoSlash,
    #[error("write parameters as `{{name}}`, each with a name of its own")]
    Parameter,
    #[error("a path has neither blanks nor `?`, `#`, `%`, `\\`, and no segment `.` or `..`")]
    Character,
}

/// Why arguments make no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    /// Too many or too few.
    #[error("it takes {takes} path parameters, and was given {given}")]
    Count {
        /// How many there are.
        takes: usize,
        /// How many came.
        given: usize,
    },
    /// Nothing in it: the path would be another one.
    #[error("the path parameter `{0}` is empty")]
    Empty(Box<str>),
    /// `.` or `..`, which every URL parser resolves, encoded or not.
    #[error("the path parameter `{0}` would lead to another path")]
    Dots(Box<str>),
    /// Not an id.
    #[error("the path parameter `{0}` is longer than {ARGUMENT_BYTES_MAX} bytes")]
    TooLong(Box<str>),
}

impl Path {
    /// Reads a template.
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        if !text.starts_with('/') || text.starts_with("//") {
            return Err(TemplateError::NoSlash);
        }
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((literal, from)) = rest.split_once('{') {
            let (name, after) = from.split_once('}').ok_or(TemplateError::Parameter)?;
            let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let parameter = Piece::Parameter(name.into());
            if !is_name || pieces.contains(&parameter) {
                return Err(TemplateError::Parameter);
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.into()));
            }
            pieces.push(parameter);
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.into()));
        }
        let path = Self(pieces.into());
        if path.literals().any(|literal| literal.contains('}')) {
            return Err(TemplateError::Parameter);
        }
        let is_odd = |c: char| !c.is_ascii_graphic() || "?#%\\\"<>".contains(c);
        let has_dots = text.split('/').any(|segment| matches!(segment, "." | ".."));
        if has_dots || path.literals().any(|literal| literal.contains(is_odd)) {
            return Err(TemplateError::Character);
        }
        Ok(path)
    }

    fn literals(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Literal(literal) => Some(&**literal),
            Piece::Parameter(_) => None,
        })
    }

    /// The names of its parameters, in their order.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Parameter(name) => Some(&**name),
            Piece::Literal(_) => None,
        })
    }

    /// The path with these arguments, each inside its segment.
    pub(crate) fn fill(&self, arguments: &[Box<str>]) -> Result<String, PathError> {
        let takes = self.parameters().count();
        if takes != arguments.len() {
            return Err(PathError::Count { takes, given: arguments.len() });
        }
        let (mut path, mut arguments) = (String::new(), arguments.iter());
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => path.push_str(literal),
                Piece::Parameter(name) => {
                    let argument = arguments.next().map(AsRef::as_ref).unwrap_or_default();
                    path.extend(utf8_percent_encode(text(name, argument)?, SEGMENT));
                }
            }
        }
        // Dots may come together from two sides of a segment.
        if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(PathError::Dots(self.parameters().next().unwrap_or_default().into()));
        }
        Ok(path)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Literal(literal) => formatter.write_str(literal),
            Piece::Parameter(name) => write!(formatter, "{{{name}}}"),
        })
    }
}

fn text<'a>(name: &str, argument: &'a str) -> Result<&'a str, PathError> {
    match argument {
        "" => Err(PathError::Empty(name.into())),
        "." | ".." => Err(PathError::Dots(name.into())),
        _ if argument.len() > ARGUMENT_BYTES_MAX => Err(PathError::TooLong(name.into())),
        _ => Ok(argument),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(template: &str, arguments: &[&str]) -> Result<String, PathError> {
        let arguments: Vec<Box<str>> = arguments.iter().map(|text| (*text).into()).collect();
        Path::parse(template).unwrap().fill(&arguments)
    }

    #[test]
    fn v22_an_argument_stays_inside_its_segment() {
        for (argument, expected) in [
            ("cus_1", "/v1/customers/cus_1"),
            ("../admin", "/v1/customers/..%2Fadmin"),
            ("a/b", "/v1/customers/a%2Fb"),
            ("?x=1", "/v1/customers/%3Fx%3D1"),
            ("%2e", "/v1/customers/%252e"),
            ("a b#c", "/v1/customers/a%20b%23c"),
            ("ft:gpt:é", "/v1/customers/ft%3Agpt%3A%C3%A9"),
            ("a\r\nb", "/v1/customers/a%0D%0Ab"),
        ] {
            assert_eq!(filled("/v1/customers/{id}", &[argument]).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn v22_what_names_nothing_is_refused() {
        let name = || Box::from("id");
        let path = Path::parse("/x/{id}/y").unwrap();
        assert_eq!(filled("/x/{id}/y", &[""]), Err(PathError::Empty(name())));
        assert_eq!(filled("/x/{id}/y", &[".."]), Err(PathError::Dots(name())));
        assert_eq!(filled("/x/{id}{b}", &[".", "."]), Err(PathError::Dots(name())));
        assert_eq!(filled("/x/.{id}", &["."]), Err(PathError::Dots(name())));
        assert_eq!(path.fill(&[]), Err(PathError::Count { takes: 1, given: 0 }));
        assert_eq!(filled("/{id}", &[&"x".repeat(1025)]), Err(PathError::TooLong(name())));
    }

    #[test]
    fn a_template_has_parameters_anywhere_and_is_written_as_it_was_read() {
        for text in
            ["/", "/v1/a", "/a/{id}", "/r/{a}/c/{base}...{head}", "/p/{id}.json", "/{n}:run"]
        {
            assert_eq!(Path::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "a", "//a", "/a?b", "/../a", "/a b", "/%2e", "/a/./b"] {
            assert!(Path::parse(text).is_err(), "{text}");
        }
        for text in ["/{", "/{}", "/{a}/{a}", "/a}", "/{a b}", "/{a{b}}"] {
            assert_eq!(Path::parse(text), Err(TemplateError::Parameter), "{text}");
        }
    }

    proptest! {
        #[test]
        fn v22_no_argument_adds_a_segment_a_query_or_a_fragment(text in "(?s).{1,40}|[./%?#]{1,6}") {
            if let Ok(path) = filled("/a/{id}/b", &[&text]) {
                let segments: Vec<&str> = path.split('/').collect();
                prop_assert_eq!(segments.len(), 4);
                prop_assert!(!matches!(segments[2], "" | "." | ".."));
                prop_assert!(!path.contains(['?', '#', '\\']) && path.is_ascii());
                let decoded = percent_encoding::percent_decode_str(segments[2]).decode_utf8().unwrap();
                prop_assert_eq!(&decoded, &text);
            }
        }
    }
}
