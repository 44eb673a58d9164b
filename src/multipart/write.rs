//! Writes `multipart/form-data` (RFC 7578, names escaped as browsers do): the length is known before the first byte goes out, files are read as they
//! are sent, and all of it can be sent again.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use ring::digest::Context;

use crate::payload::{MEMORY_BYTES_MAX, Payload};

/// A part to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// The name of the form's field.
    pub(crate) field: Box<str>,
    /// `None`: it is a plain field.
    pub(crate) file_name: Option<Box<str>>,
    /// Fit to be a header's value; `None`: the part says nothing of it.
    pub(crate) content_type: Option<Box<str>>,
    /// Its bytes.
    pub(crate) payload: Payload,
}

/// A whole body.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    /// For the header.
    pub(crate) content_type: String,
    /// Exactly.
    pub(crate) length: u64,
    pieces: Vec<Payload>,
}

/// The body that these parts are. The boundary must be one that nobody can guess, such as a `uuid()` of the run: then it is in none of the parts, and
/// a rerun sends the same bytes.
pub(crate) fn encode(parts: &[Sent], boundary: &str) -> Encoded {
    let mut pieces = Vec::with_capacity(parts.len() * 2 + 1);
    let mut before = String::new();
    for part in parts {
        before.push_str(&head(part, boundary));
        pieces.push(Payload::from(std::mem::take(&mut before)));
        pieces.push(part.payload.clone());
        before.push_str("\r\n");
    }
    before.push_str(&format!("--{boundary}--\r\n"));
    pieces.push(Payload::from(before));
    Encoded {
        content_type: format!("multipart/form-data; boundary={boundary}"),
        length: pieces.iter().map(Payload::len).sum(),
        pieces,
    }
}

impl Encoded {
    /// All of it, where it is small and there: then it needs no stream.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        if self.length > MEMORY_BYTES_MAX {
            return None;
        }
        let pieces: Option<Vec<&[u8]>> =
            self.pieces.iter().map(|piece| piece.in_memory().map(|bytes| &**bytes)).collect();
        pieces.map(|pieces| pieces.concat().into())
    }

    /// From its beginning; each stream reads anew.
    pub(crate) fn chunks(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let pieces = futures_util::stream::iter(self.pieces.clone());
        pieces.flat_map(|piece| piece.chunks().boxed())
    }

    /// What a digest comes to when all of it follows.
    pub(crate) async fn digest(&self, mut digest: Context) -> io::Result<Context> {
        for piece in &self.pieces {
            digest = piece.digest(digest).await?;
        }
        Ok(digest)
    }
}

fn head(part: &Sent, boundary: &str) -> String {
    let mut head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"",
        escaped(&part.field)
    );
    if let Some(file_name) = &part.file_name {
        head.push_str(&format!("; filename=\"{}\"", escaped(file_name)));
    }
    if let Some(content_type) = &part.content_type {
        head.push_str(&format!("\r\nContent-Type: {content_type}"));
    }
    head.push_str("\r\n\r\n");
    head
}

/// What would end the quotes or the line is escaped, and nothing else. Servers do not agree on what a backslash means, so it goes out as browsers
/// send it.
fn escaped(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;
    use proptest::prelude::*;
    use ring::digest::SHA256;

    use super::super::{Part, Reader, boundary};
    use super::*;

    fn sent(field: &str, file_name: Option<&str>, content: &[u8]) -> Sent {
        Sent {
            field: field.into(),
            file_name: file_name.map(Into::into),
            content_type: file_name.map(|_| "application/octet-stream".into()),
            payload: content.to_vec().into(),
        }
    }

    #[tokio::test]
    async fn a_body_is_written_as_browsers_write_it() {
        let parts = [sent("n", None, b"3"), sent("a\"b\r\n", Some("ä \"q\".bin"), b"\x00\xff")];
        let encoded = encode(&parts, "xyz");
        assert_eq!(encoded.content_type, "multipart/form-data; boundary=xyz");
        let expected = [
            b"--xyz\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n3\r\n--xyz\r\n".as_slice(),
            "Content-Disposition: form-data; name=\"a%22b%0D%0A\"; filename=\"ä %22q%22.bin\"\r\n"
                .as_bytes(),
            b"Content-Type: application/octet-stream\r\n\r\n\x00\xff\r\n--xyz--\r\n",
        ]
        .concat();
        assert_eq!(encoded.whole().unwrap(), expected);
        assert_eq!(encoded.length, expected.len() as u64);
        assert_eq!(encode(&[], "xyz").whole().unwrap(), "--xyz--\r\n");
        let large = encode(&[sent("f", Some("x"), &vec![1; 70_000])], "xyz");
        assert!(large.whole().is_none());
        let chunks: Vec<Bytes> = large.chunks().try_collect().await.unwrap();
        assert_eq!(chunks.concat().len() as u64, large.length);
        let digest = large.digest(Context::new(&SHA256)).await.unwrap().finish();
        assert_eq!(digest.as_ref(), ring::digest::digest(&SHA256, &chunks.concat()).as_ref());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            fields in prop::collection::vec(("[^\0%\\\\]{0,9}", prop::option::of("[a-zé \"]{1,9}"),
                prop::collection::vec(any::<u8>(), 0..40)), 0..6),
        ) {
            let parts: Vec<Sent> = fields
                .iter()
                .map(|(field, file_name, content)| sent(field, file_name.as_deref(), content))
                .collect();
            let encoded = encode(&parts, "0b5bbd40-8a5a-4bb4");
            let body = encoded.whole().unwrap();
            let read = Reader::read(&boundary(&encoded.content_type).unwrap(), &body).unwrap();
            let at = |offset: u64| usize::try_from(offset).unwrap();
            let seen: Vec<_> = read
                .iter()
                .map(|Part { field, file_name, range, .. }| {
                    let content = body[at(range.start)..at(range.end)].to_vec();
                    (field.to_string(), file_name.as_deref().map(str::to_owned), content)
                })
                .collect();
            prop_assert_eq!(seen, fields);
        }
    }
}
