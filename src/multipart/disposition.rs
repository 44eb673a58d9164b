//! What the head of a part says of it: `Content-Disposition` with a field's name and a file's name in the three ways in which clients write them,
//! `Content-Type`, and nothing else. A file's name is only ever its last segment.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::read::Broken;

/// Bytes of a field's name.
const NAME_BYTES_MAX: usize = 1 << 10;
/// Bytes of a file's name that are kept: no file system takes more.
const FILE_NAME_BYTES_MAX: usize = 255;
/// Bytes of a part's content type.
const CONTENT_TYPE_BYTES_MAX: usize = 255;

/// What a part is called.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) field: Box<str>,
    pub(super) file_name: Option<Box<str>>,
    pub(super) content_type: Option<Box<str>>,
}

/// Reads the lines of a part's head, without the empty one at its end.
pub(super) fn head(lines: &[u8]) -> Result<Head, Broken> {
    let lines = String::from_utf8_lossy(lines);
    let mut named = None;
    let mut content_type = None;
    for line in lines.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(Broken::Head)?;
        match name.trim_end().to_ascii_lowercase().as_str() {
            "content-disposition" => named = Some(names(value)?),
            "content-type" => content_type = Some(value.trim()),
            "content-transfer-encoding" if !is_plain(value.trim()) => return Err(Broken::Encoded),
            _ => {}
        }
    }
    let (field, file_name) = named.ok_or(Broken::Unnamed)?;
    if content_type.is_some_and(|value| value.len() > CONTENT_TYPE_BYTES_MAX) {
        return Err(Broken::NameTooLong);
    }
    let content_type = content_type.filter(|value| !value.is_empty()).map(Into::into);
    Ok(Head { field, file_name, content_type })
}

/// Encodings that change no byte; RFC 7578, section 4.7, leaves no other in use.
fn is_plain(encoding: &str) -> bool {
    ["7bit", "8bit", "binary"].iter().any(|plain| encoding.eq_ignore_ascii_case(plain))
}

type Names = (Box<str>, Option<Box<str>>);

/// The field's name and the file's.
fn names(value: &str) -> Result<Names, Broken> {
    let (kind, rest) = value.split_once(';').ok_or(Broken::Unnamed)?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return Err(Broken::Unnamed);
    }
    let (mut field, mut plain, mut extended) = (None, None, None);
    for (name, value) in parameters(rest) {
        match name.as_str() {
            "name" => field = field.or(Some(value)),
            "filename" => plain = plain.or(Some(value)),
            "filename*" => extended = extended.or_else(|| extended_value(&value)),
            _ => {}
        }
    }
    let field = field.map(|field| browser_unescaped(&field).into_owned()).ok_or(Broken::Unnamed)?;
    if field.len() > NAME_BYTES_MAX {
        return Err(Broken::NameTooLong);
    }
    // RFC 6266, section 4.3: the extended one is the better one.
    let file_name = extended.or_else(|| plain.map(|name| browser_unescaped(&name).into_owned()));
    Ok((field.into(), file_name.map(|name| file_name_of(&name).into())))
}

/// `name=value; name="value"`: names in lower case, values without quotes and escapes. What is no parameter is passed over.
pub(super) fn parameters(text: &str) -> impl Iterator<Item = (String, String)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start_matches([';', ' ', '\t']);
            if rest.is_empty() {
                return None;
            }
            let end = rest.find(['=', ';']).unwrap_or(rest.len());
            let name = rest[..end].trim().to_ascii_lowercase();
            rest = &rest[end..];
            let Some(value) = rest.strip_prefix('=') else { continue };
            let (value, behind) = parameter_value(value.trim_start());
            rest = behind;
            return Some((name, value));
        }
    })
}

/// A quoted string or a token, and what stands behind it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return (text[..end].trim_end().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices().peekable();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[index + 1..]),
            // Old browsers send `C:\folder\file` as it is, so nothing but these two can be meant as an escape.
            '\\' => match characters.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                Some((_, escaped)) => value.push(escaped),
                None => value.push('\\'),
            },
            other => value.push(other),
        }
    }
    (value, "")
}

/// What browsers write for what cannot stand in quotes (HTML Living Standard, "multipart/form-data encoding algorithm"); they escape nothing else.
fn browser_unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    text.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n").into()
}

/// `UTF-8''na%C3%AFve.txt` (RFC 8187). `None`: not UTF-8.
fn extended_value(text: &str) -> Option<String> {
    let mut parts = text.splitn(3, '\'');
    let (charset, _language, value) = (parts.next()?, parts.next()?, parts.next()?);
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    percent_decode_str(value).decode_utf8().ok().map(Cow::into_owned)
}

/// The last segment of what may be a path, without control characters, no longer than a file system takes.
fn file_name_of(path: &str) -> String {
    let last = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name: String = last.chars().filter(|character| !character.is_control()).collect();
    if matches!(name.as_str(), "." | "..") {
        return String::new();
    }
    name.truncate(name.floor_char_boundary(FILE_NAME_BYTES_MAX));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_name(disposition: &str) -> String {
        let line = format!("Content-Disposition: form-data; name=\"f\"; {disposition}");
        head(line.as_bytes()).unwrap().file_name.map_or("none".to_owned(), String::from)
    }

    #[test]
    fn a_file_s_name_is_its_last_segment_in_whatever_way_it_is_written() {
        let check = |disposition: &str, expected: &str| {
            assert_eq!(file_name(disposition), expected, "{disposition}");
        };
        check("filename=\"a.txt\"", "a.txt");
        check("filename=a.txt", "a.txt");
        check("FILENAME=\"a.txt\"", "a.txt");
        check("filename=\"../../etc/passwd\"", "passwd");
        check("filename=\"/etc/passwd\"", "passwd");
        check("filename=\"C:\\Users\\me\\a.txt\"", "a.txt");
        check("filename=\"..\"", "");
        check("filename=\"a/..\"", "");
        check("filename=\"a/\"", "");
        check("filename=\"\"", "");
        check("filename=\"a \\\"b\\\".txt\"", "a \"b\".txt");
        check("filename=\"a %22b%22.txt\"", "a \"b\".txt");
        check("filename=\"100%25.txt\"", "100%25.txt");
        check("filename=\"a;b=c.txt\"; x=1", "a;b=c.txt");
        check("filename=\"naïve-日本.txt\"", "naïve-日本.txt");
        check("filename=\"x.txt\"; filename*=UTF-8''na%C3%AFve%2F%E6%97%A5.txt", "日.txt");
        check("filename*=utf-8'en'a%20b.txt; filename=\"x.txt\"", "a b.txt");
        check("filename*=latin1''%E4.txt; filename=\"x.txt\"", "x.txt");
        check("filename*=UTF-8''%FF; filename=\"x.txt\"", "x.txt");
        check("filename=\"a\u{0}\u{7}\u{9b}b%0D%0A.txt\"", "ab.txt");
        check("filename=\"unclosed.txt", "unclosed.txt");
        check("x=1", "none");
        let long = file_name(&format!("filename=\"{}\"", "ä".repeat(200)));
        assert_eq!(long, "ä".repeat(127));
    }

    #[test]
    fn a_head_without_a_name_or_with_too_much_is_refused() {
        let check = |lines: &str, expected: Broken| {
            assert_eq!(head(lines.as_bytes()), Err(expected), "{lines}");
        };
        check("", Broken::Unnamed);
        check("Content-Type: text/plain", Broken::Unnamed);
        check("Content-Disposition: form-data", Broken::Unnamed);
        check("Content-Disposition: form-data; filename=\"x\"", Broken::Unnamed);
        check("Content-Disposition: attachment; name=\"x\"", Broken::Unnamed);
        check("no colon", Broken::Head);
        let named = "Content-Disposition: form-data; name=\"x\"\r\n";
        check(&format!("{named}Content-Transfer-Encoding: base64"), Broken::Encoded);
        check(&format!("{named}Content-Type: {}", "x".repeat(256)), Broken::NameTooLong);
        let long = "x".repeat(1025);
        check(&format!("Content-Disposition: form-data; name=\"{long}\""), Broken::NameTooLong);
        let binary =
            format!("{named}Content-Transfer-Encoding: Binary\r\ncontent-type : a/b\r\nX: y");
        let expected =
            Head { field: "x".into(), file_name: None, content_type: Some("a/b".into()) };
        assert_eq!(head(binary.as_bytes()), Ok(expected));
    }
}
