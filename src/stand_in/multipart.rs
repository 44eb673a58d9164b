//! Bodies of type `multipart/form-data` (RFC 7578), whole and in memory: their fields and files.

use bytes::Bytes;

/// Parts of one body; uploads have a handful.
const PARTS_MAX: usize = 100;

/// One field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    /// Only files have one.
    pub(super) file_name: Option<String>,
    pub(super) content: Bytes,
}

/// The parts of a body, if it is one.
pub(super) fn read(content_type: &str, body: &Bytes) -> Option<Vec<Part>> {
    let media_type = content_type.split(';').next()?.trim();
    if !media_type.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let delimiter = format!("--{}", parameter(content_type, "boundary")?);
    let between = format!("\r\n{delimiter}");
    let mut at = find(body, delimiter.as_bytes(), 0)? + delimiter.len();
    let mut parts = Vec::new();
    while !body.get(at..)?.starts_with(b"--") {
        if parts.len() >= PARTS_MAX {
            return None;
        }
        let head = find(body, b"\r\n", at)? + 2;
        let end_of_head = find(body, b"\r\n\r\n", head)?;
        let content = end_of_head + 4;
        let end = find(body, between.as_bytes(), content)?;
        parts.push(part(body.get(head..end_of_head)?, body.slice(content..end))?);
        at = end + between.len();
    }
    Some(parts)
}

fn part(head: &[u8], content: Bytes) -> Option<Part> {
    let head = std::str::from_utf8(head).ok()?;
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let name = parameter(disposition, "name")?;
    Some(Part { name, file_name: parameter(disposition, "filename"), content })
}

/// A parameter of a header's value, in quotes or without.
fn parameter(value: &str, name: &str) -> Option<String> {
    value.split(';').skip(1).find_map(|part| {
        let (known, value) = part.split_once('=')?;
        let value = value.trim();
        let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        known
            .trim()
            .eq_ignore_ascii_case(name)
            .then(|| unquoted.unwrap_or(value).to_owned())
            .filter(|value| !value.is_empty())
    })
}

fn find(body: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let rest = body.get(from..)?;
    let first = *what.first()?;
    let mut start = 0;
    // From one first byte to the next: `windows` compares at each place, which takes seconds for a large upload.
    while let Some(next) = rest.get(start..)?.iter().position(|byte| *byte == first) {
        if rest[start + next..].starts_with(what) {
            return Some(from + start + next);
        }
        start += next + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=X";

    fn body(text: &str) -> Bytes {
        Bytes::from(text.replace('\n', "\r\n"))
    }

    #[test]
    fn fields_and_files_are_read_as_they_were_sent() {
        let body = body(
            "--X\nContent-Disposition: form-data; name=\"model\"\n\nwhisper-1\n--X\ncontent-disposition: form-data; name=\"file\"; filename=\"a.mp3\"\ncontent-type: audio/mpeg\n\n-\n--\n\n--X--\n",
        );
        let parts = read(TYPE, &body).unwrap();
        let seen: Vec<_> = parts
            .iter()
            .map(|part| (&*part.name, part.file_name.as_deref(), &part.content[..]))
            .collect();
        assert_eq!(
            seen,
            [("model", None, &b"whisper-1"[..]), ("file", Some("a.mp3"), b"-\r\n--\r\n")]
        );
    }

    #[test]
    fn what_is_cut_or_something_else_is_no_form() {
        let whole = "--X\nContent-Disposition: form-data; name=\"a\"\n\nb\n--X--";
        assert_eq!(read(TYPE, &body(whole)).unwrap().len(), 1);
        let bytes = body(whole);
        for length in 0..bytes.len() - 2 {
            assert_eq!(read(TYPE, &bytes.slice(..length)), None, "{length}");
        }
        for content_type in ["multipart/form-data", "application/json; boundary=X", ""] {
            assert_eq!(read(content_type, &bytes), None);
        }
    }
}
