//! What a script sends to others as bytes: `body` and `multipart` of a call. `#{ file: req.files[0], purpose: "assistants" }`, or an array of
//! `[name, value]` where a name comes twice or the order counts.

use rhai::{Array, Blob, Dynamic, ImmutableString, Map};

use super::file::File;
use super::respond::is_header_value;
use crate::multipart::Sent;
use crate::payload::Payload;
use crate::script::current::{Throw, fail};
use crate::script::value::{self, Kind, kind};

/// Parts of one call: what the largest forms have, and few enough to be written down.
const PARTS_MAX: usize = 1_000;
/// RFC 2046, section 4.5.1: bytes of an unknown kind.
const BYTES: &str = "application/octet-stream";

/// The bytes of `body`, and their content type where they have one of their own. To be called where plain data is built that leaves the run.
pub(in crate::script) fn body(value: &Dynamic) -> Result<(Payload, Option<Box<str>>), Throw> {
    if let Some(file) = value.read_lock::<File>() {
        return Ok((file.payload(), file.content_type().map(Into::into)));
    }
    bytes(value).map(|bytes| (bytes, None)).ok_or_else(|| {
        fail(&format!("`body` is a string, a blob or a file, not {}", kind(value).words()))
    })
}

/// The parts of `multipart`, in their order. To be called where plain data is built that leaves the run.
pub(in crate::script) fn parts(value: &Dynamic) -> Result<Vec<Sent>, Throw> {
    let sent = if let Some(map) = value.read_lock::<Map>() {
        map.iter().map(|(name, value)| part(name, value)).collect::<Result<Vec<_>, _>>()?
    } else if let Some(pairs) = value.read_lock::<Array>() {
        pairs.iter().map(pair).collect::<Result<Vec<_>, _>>()?
    } else {
        return Err(fail(&format!(
            "`multipart` is a map, or an array of [name, value], not {}",
            kind(value).words()
        )));
    };
    if sent.len() > PARTS_MAX {
        return Err(fail(&format!("`multipart` has {} parts; 1,000 at most", sent.len())));
    }
    Ok(sent)
}

fn pair(pair: &Dynamic) -> Result<Sent, Throw> {
    let wrong = || fail("`multipart` as an array has items of the form [name, value]");
    let pair = pair.read_lock::<Array>().ok_or_else(wrong)?;
    let [name, value] = pair.as_slice() else { return Err(wrong()) };
    let name = name.read_lock::<ImmutableString>().ok_or_else(wrong)?;
    part(&name, value)
}

/// One part. A map describes a file: `#{ file: blob, name: "a.png", content_type: "image/png" }`.
fn part(field: &str, value: &Dynamic) -> Result<Sent, Throw> {
    if let Some(map) = value.read_lock::<Map>() {
        return described(field, &map);
    }
    if let Some(file) = value.read_lock::<File>() {
        return Ok(of_file(field, &file));
    }
    let payload = bytes(value).or_else(|| plain(value)).ok_or_else(|| {
        fail(&format!(
            "`multipart`: `{field}` is a string, a number, a bool, a blob, a file or a map with a `file`, not {}",
            kind(value).words()
        ))
    })?;
    // Servers take a part with a file's name for a file, and bytes are one.
    let is_blob = kind(value) == Kind::Blob;
    Ok(Sent {
        field: field.into(),
        file_name: is_blob.then(|| field.into()),
        content_type: is_blob.then(|| BYTES.into()),
        payload,
    })
}

fn described(field: &str, map: &Map) -> Result<Sent, Throw> {
    let known = ["file", "name", "content_type"];
    if let Some(name) = map.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(fail(&format!(
            "`multipart`: `{field}` has an unknown `{name}`; a file has file, name, content_type"
        )));
    }
    let file = map.get("file").ok_or_else(|| {
        fail(&format!("`multipart`: `{field}` is a map without `file`, which says what is sent"))
    })?;
    let mut sent = match file.read_lock::<File>() {
        Some(file) => of_file(field, &file),
        None => {
            let payload = bytes(file).ok_or_else(|| {
                let words = kind(file).words();
                fail(&format!(
                    "`multipart`: `file` of `{field}` is a string, a blob or a file, not {words}"
                ))
            })?;
            let (field, file_name) = (field.into(), Some(field.into()));
            Sent { field, file_name, content_type: Some(BYTES.into()), payload }
        }
    };
    if let Some(name) = text(field, map, "name")? {
        sent.file_name = Some(name);
    }
    if let Some(content_type) = text(field, map, "content_type")? {
        if content_type.is_empty() || !is_header_value(&content_type) {
            return Err(fail(&format!(
                "`multipart`: `content_type` of `{field}` has a character that HTTP forbids, or none at all"
            )));
        }
        sent.content_type = Some(content_type);
    }
    Ok(sent)
}

fn text(field: &str, map: &Map, name: &str) -> Result<Option<Box<str>>, Throw> {
    let Some(value) = map.get(name).filter(|value| kind(value) != Kind::Unit) else {
        return Ok(None);
    };
    let text = value.read_lock::<ImmutableString>();
    let text = text.map(|text| text.as_str().into());
    text.map(Some).ok_or_else(|| {
        let words = kind(value).words();
        fail(&format!("`multipart`: `{name}` of `{field}` is a string, not {words}"))
    })
}

/// As it came, with what its sender said of it, as far as that can be a header.
fn of_file(field: &str, file: &File) -> Sent {
    let content_type = file.content_type().filter(|text| is_header_value(text)).unwrap_or(BYTES);
    let name = file.name().filter(|name| !name.is_empty()).unwrap_or(field);
    Sent {
        field: field.into(),
        file_name: Some(name.into()),
        content_type: Some(content_type.into()),
        payload: file.payload(),
    }
}

fn bytes(value: &Dynamic) -> Option<Payload> {
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return Some(text.as_bytes().to_vec().into());
    }
    value.read_lock::<Blob>().map(|blob| blob.to_vec().into())
}

fn plain(value: &Dynamic) -> Option<Payload> {
    let is_plain = matches!(kind(value), Kind::Int | Kind::Float | Kind::Bool | Kind::Char);
    is_plain.then(|| value::to_text(value).into())
}

#[cfg(test)]
mod tests {
    use crate::script::builtins::testing::engine;

    use super::*;

    fn shown(sent: &Sent) -> String {
        let content = sent.payload.in_memory().unwrap();
        format!(
            "{} {:?} {:?} {}",
            sent.field,
            sent.file_name.as_deref().unwrap_or("-"),
            sent.content_type.as_deref().unwrap_or("-"),
            String::from_utf8_lossy(content)
        )
    }

    /// The parts that a script's value is, or why it is none.
    fn check(script: &str, expected: &str) {
        let upload = File::new(
            &Payload::from("bytes"),
            None,
            Some("a.txt".into()),
            Some("text/plain".into()),
        );
        let mut scope = rhai::Scope::new();
        scope.push("upload", upload);
        let value = engine().eval_with_scope::<Dynamic>(&mut scope, script).unwrap();
        let seen = match parts(&value) {
            Ok(parts) => parts.iter().map(shown).collect::<Vec<_>>().join(" | "),
            Err(error) => error.to_string(),
        };
        assert!(seen.contains(expected), "{script}\n{seen}\n{expected}");
    }

    #[test]
    fn a_map_or_pairs_of_plain_values_blobs_and_files_are_parts() {
        check(
            "#{ file: upload, purpose: \"assistants\", n: 3, yes: true, f: 0.5 }",
            "f \"-\" \"-\" 0.5 | file \"a.txt\" \"text/plain\" bytes | n \"-\" \"-\" 3 | purpose \"-\" \"-\" assistants | yes \"-\" \"-\" true",
        );
        check(
            "[[\"b\", 1], [\"a\", 2], [\"b\", 3]]",
            "b \"-\" \"-\" 1 | a \"-\" \"-\" 2 | b \"-\" \"-\" 3",
        );
        check("#{ data: blob(2, 65) }", "data \"data\" \"application/octet-stream\" AA");
        check(
            "#{ f: #{ file: \"x,y\", name: \"a.csv\", content_type: \"text/csv\" } }",
            "f \"a.csv\" \"text/csv\" x,y",
        );
        check("#{ f: #{ file: upload, name: \"b.txt\" } }", "f \"b.txt\" \"text/plain\" bytes");
        check("#{}", "");
    }

    #[test]
    fn what_cannot_be_a_part_is_named() {
        check("5", "`multipart` is a map, or an array of [name, value], not an integer");
        check("[1]", "items of the form [name, value]");
        check("[[\"a\"]]", "items of the form [name, value]");
        check("[[1, 2]]", "items of the form [name, value]");
        check(
            "#{ a: [1] }",
            "`a` is a string, a number, a bool, a blob, a file or a map with a `file`, not an array",
        );
        check("#{ a: () }", "not ()");
        check("#{ a: #{ name: \"x\" } }", "`a` is a map without `file`");
        check(
            "#{ a: #{ file: 1 } }",
            "`file` of `a` is a string, a blob or a file, not an integer",
        );
        check("#{ a: #{ file: \"\", size: 1 } }", "unknown `size`");
        check("#{ a: #{ file: \"\", name: 1 } }", "`name` of `a` is a string, not an integer");
        check(
            "#{ a: #{ file: \"\", content_type: \"a\\r\\nb: c\" } }",
            "a character that HTTP forbids",
        );
        check(
            "let m = []; for n in 0..1001 { m.push([\"a\", n]); } m",
            "1001 parts; 1,000 at most",
        );
    }

    #[test]
    fn a_body_is_text_a_blob_or_a_file() {
        let upload = File::new(&Payload::from("bytes"), None, None, Some("a/b".into()));
        let (payload, content_type) = body(&Dynamic::from(upload)).unwrap();
        assert_eq!((payload, content_type.as_deref()), (Payload::from("bytes"), Some("a/b")));
        assert_eq!(body(&"text".into()).unwrap(), (Payload::from("text"), None));
        assert!(body(&5_i64.into()).unwrap_err().to_string().contains("not an integer"));
    }
}
