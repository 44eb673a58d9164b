//! `multipart/form-data` (RFC 7578): reading it as it comes, and writing it. What is read is not copied: a part is a range of the body that it came
//! in, so a file of a form is a view of the request or event that brought it.
//!
//! The crates that read it hand out copies of the parts, part by part; here the body as received is kept anyway, and where its parts lie is all
//! that has to be known.

use std::ops::Range;

mod disposition;
mod read;
mod write;

pub(crate) use self::read::{Broken, Reader};
pub(crate) use self::write::{Encoded, Sent, encode};

/// One part of a body, as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The name of the form's field.
    pub(crate) field: Box<str>,
    /// Of the file, without any folder; `None`: it is a plain field.
    pub(crate) file_name: Option<Box<str>>,
    /// As the part says.
    pub(crate) content_type: Option<Box<str>>,
    /// Where its bytes are in the body.
    pub(crate) range: Range<u64>,
}

/// The boundary that a content type names; `None`: it is no multipart form, or names none that can be.
pub(crate) fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case(FORM_DATA) {
        return None;
    }
    let found = disposition::parameters(parameters).find(|(name, _)| name == "boundary")?.1;
    // RFC 2046, section 5.1.1: 1 to 70 characters, the last of which is no blank.
    let is_sound = (1..=70).contains(&found.len())
        && found.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && !found.ends_with(' ');
    is_sound.then_some(found)
}

/// Whether a content type says that the body is a form with files, with a usable boundary or without.
pub(crate) fn is_form_data(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case(FORM_DATA)
}

const FORM_DATA: &str = "multipart/form-data";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boundary_is_a_parameter_quoted_or_not() {
        let check = |content_type: &str, expected: Option<&str>| {
            assert_eq!(boundary(content_type).as_deref(), expected, "{content_type}");
        };
        check("multipart/form-data; boundary=abc", Some("abc"));
        check("Multipart/Form-Data;charset=utf-8;BOUNDARY=\"a b;c\"", Some("a b;c"));
        check("multipart/form-data; boundary=abc; charset=utf-8", Some("abc"));
        check("multipart/form-data", None);
        check("multipart/form-data; boundary=", None);
        check("multipart/form-data; boundary=\"\"", None);
        check("multipart/form-data; boundary=\"a \"", None);
        check("multipart/form-data; boundary=ä", None);
        check(&format!("multipart/form-data; boundary={}", "a".repeat(71)), None);
        check("multipart/mixed; boundary=abc", None);
        check("text/plain; boundary=abc", None);
        assert!(is_form_data("multipart/form-data"));
        assert!(!is_form_data("multipart/form-data-x; boundary=abc"));
    }
}
