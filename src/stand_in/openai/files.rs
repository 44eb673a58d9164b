//! `/v1/files`, and transcriptions, which take a file too. What is in the files is kept within a bound; past it the oldest lose theirs.

use std::collections::VecDeque;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::json;

use super::super::answer::Answer;
use super::super::ids::Ids;
use super::super::multipart::{self, Part};
use super::super::objects::Objects;
use super::super::request::Request;
use super::error::{Outcome, Problem};
use super::{fine, known, list};

/// Bytes of all files together.
const CONTENT_BYTES_MAX: usize = 64 << 20;
/// Files of one page.
const PAGE_MAX: usize = 10_000;
/// What a file may be for.
const PURPOSES: [&str; 6] = ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"];

/// The files that were uploaded.
#[derive(Default)]
pub(super) struct Files {
    objects: Objects,
    contents: VecDeque<(String, Bytes)>,
}

impl Files {
    pub(super) fn create(&mut self, request: &Request, ids: &mut Ids, seconds: i64) -> Outcome {
        let parts = parts(request)?;
        let file = file(&parts)?;
        let purpose = field(&parts, "purpose").ok_or_else(|| Problem::missing("purpose"))?;
        if !PURPOSES.contains(&purpose.as_str()) {
            let message = format!("'{purpose}' is not one of {PURPOSES:?} - 'purpose'");
            return Err(Problem::bad(message, "purpose"));
        }
        let id = ids.next("file-", 22);
        let object = json!({
            "id": id,
            "object": "file",
            "bytes": file.content.len(),
            "created_at": seconds,
            "expires_at": null,
            "filename": file.file_name,
            "purpose": purpose,
            "status": "processed",
            "status_details": null,
        });
        self.keep(id, &file.content);
        self.objects.insert(object.clone());
        fine(&object)
    }

    pub(super) fn list(&self, request: &Request) -> Outcome {
        fine(&list(&self.objects, request, PAGE_MAX)?)
    }

    pub(super) fn retrieve(&self, id: &str) -> Outcome {
        fine(self.objects.get(id).ok_or_else(|| not_found(id))?)
    }

    pub(super) fn content(&self, id: &str) -> Outcome {
        let found = self.contents.iter().find(|(known, _)| known == id);
        let (_, content) = found.ok_or_else(|| not_found(id))?;
        Ok((Answer::whole(StatusCode::OK, "application/octet-stream", content.clone()), None))
    }

    pub(super) fn delete(&mut self, id: &str) -> Outcome {
        self.objects.remove(id).ok_or_else(|| not_found(id))?;
        self.contents.retain(|(known, _)| known != id);
        fine(&json!({ "id": id, "object": "file", "deleted": true }))
    }

    fn keep(&mut self, id: String, content: &[u8]) {
        // A part is a slice of its request, which it would keep alive.
        self.contents.push_back((id, Bytes::copy_from_slice(content)));
        let mut bytes: usize = self.contents.iter().map(|(_, content)| content.len()).sum();
        while bytes > CONTENT_BYTES_MAX {
            let Some((_, oldest)) = self.contents.pop_front() else { return };
            bytes -= oldest.len();
        }
    }
}

/// What was said in a file: nobody listens, so how long it is.
pub(super) fn transcribe(request: &Request) -> Outcome {
    let parts = parts(request)?;
    let file = file(&parts)?;
    known(&field(&parts, "model").ok_or_else(|| Problem::missing("model"))?)?;
    let text = format!("{} bytes of sound.", file.content.len());
    match field(&parts, "response_format").as_deref() {
        None | Some("json") => {
            fine(&json!({ "text": text, "usage": { "type": "duration", "seconds": 1 } }))
        }
        Some("text") => {
            let text = Bytes::from(format!("{text}\n"));
            Ok((Answer::whole(StatusCode::OK, "text/plain; charset=utf-8", text), None))
        }
        Some("verbose_json") => fine(&json!({
            "task": "transcribe",
            "language": "english",
            "duration": 1.0,
            "text": text,
            "segments": [],
            "usage": { "type": "duration", "seconds": 1 },
        })),
        Some(other) => {
            let message = format!(
                "Invalid value: '{other}'. Supported values are: 'json', 'text', 'verbose_json'."
            );
            Err(Problem::bad(message, "response_format").with_code("invalid_value"))
        }
    }
}

fn parts(request: &Request) -> Result<Vec<Part>, Problem> {
    let content_type = request.header("content-type").unwrap_or_default();
    multipart::read(content_type, &request.body)
        .ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "Could not parse multipart form"))
}

fn file(parts: &[Part]) -> Result<&Part, Problem> {
    let found = parts.iter().find(|part| part.name == "file" && part.file_name.is_some());
    found.ok_or_else(|| Problem::missing("file"))
}

fn field(parts: &[Part], name: &str) -> Option<String> {
    let part = parts.iter().find(|part| part.name == name)?;
    Some(String::from_utf8_lossy(&part.content).into_owned())
}

fn not_found(id: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("No such File object: {id}")).with_param("id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_bound_the_oldest_files_lose_what_is_in_them() {
        let mut files = Files::default();
        for id in ["a", "b", "c"] {
            files.keep(id.to_owned(), &vec![0; CONTENT_BYTES_MAX / 2]);
        }
        let kept: Vec<_> = files.contents.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(kept, ["b", "c"]);
    }
}
