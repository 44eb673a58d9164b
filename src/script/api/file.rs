//! `File`: a handle to bytes that came from outside, such as `req.files[0]` or `req.bytes`. It costs a run nothing until the script asks for
//! what is in it; then it is the run's own memory. Reading what is on disk suspends the run.

use std::rc::Rc;

use rhai::{Blob, Dynamic, ImmutableString, Module};
use ring::digest::{SHA256, digest};

use super::hex;
use crate::memory;
use crate::payload::{MEMORY_BYTES_MAX, Payload};
use crate::script::builtins::ending::reserve;
use crate::script::current::{Throw, ask, fail, thrown};
use crate::script::host_call::{HostCall, HostError, HostReply};

/// The code that the server turns into 400.
pub(crate) const INVALID_PAYLOAD: &str = "INVALID_PAYLOAD";

/// The value.
#[derive(Clone)]
pub(crate) struct File(Rc<Described>);

struct Described {
    field: Option<Box<str>>,
    name: Option<Box<str>>,
    content_type: Option<Box<str>>,
    payload: Payload,
}

/// Its properties and functions.
pub(crate) fn register(module: &mut Module) {
    module.set_custom_type::<File>("File");
    let mut text = |name: &str, part: fn(&Described) -> &Option<Box<str>>| {
        module.set_getter_fn(name, move |file: &mut File| {
            let text = part(&file.0).as_deref();
            Ok(text.map_or(Dynamic::UNIT, |text| text.to_owned().into()))
        });
    };
    text("field", |file| &file.field);
    text("name", |file| &file.name);
    text("content_type", |file| &file.content_type);
    module.set_getter_fn("size", |file: &mut File| Ok(file.size()));
    module.set_getter_fn("len", |file: &mut File| Ok(file.size()));
    module.set_native_fn("len", |file: File| Ok(file.size()));
    module.set_native_fn("text", |file: File| file.text());
    module.set_native_fn("bytes", |file: File| file.bytes());
    module.set_native_fn("sha256", |file: File| file.sha256());
}

impl File {
    /// A part of a body, or the whole of it. What it is a handle to is not the run's own memory.
    pub(super) fn new(
        payload: &Payload,
        field: Option<Box<str>>,
        name: Option<Box<str>>,
        content_type: Option<Box<str>>,
    ) -> Self {
        let payload = memory::uncharged(|| payload.clone());
        Self(Rc::new(Described { field, name, content_type, payload }))
    }

    /// What it is a handle to. To be called where plain data is built that leaves the run.
    pub(super) fn payload(&self) -> Payload {
        self.0.payload.clone()
    }

    /// Of the part that brought it.
    pub(super) fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// As its sender says.
    pub(super) fn content_type(&self) -> Option<&str> {
        self.0.content_type.as_deref()
    }

    fn size(&self) -> i64 {
        i64::try_from(self.0.payload.len()).unwrap_or(i64::MAX)
    }

    fn text(&self) -> Result<ImmutableString, Throw> {
        with_bytes("text", &self.0.payload, |bytes| {
            reserve(bytes.len())?;
            let text = std::str::from_utf8(bytes);
            text.map(Into::into).map_err(|_| invalid("the file is not UTF-8 text"))
        })
    }

    fn bytes(&self) -> Result<Blob, Throw> {
        with_bytes("bytes", &self.0.payload, |bytes| {
            reserve(bytes.len())?;
            Ok(bytes.to_vec())
        })
    }

    fn sha256(&self) -> Result<String, Throw> {
        let payload = &self.0.payload;
        if payload.len() <= MEMORY_BYTES_MAX
            && let Some(bytes) = payload.in_memory()
        {
            return Ok(hex::encode(digest(&SHA256, bytes).as_ref()));
        }
        let call = || Ok(HostCall::Digest(payload.clone()));
        ask("sha256", call, |reply| match reply {
            HostReply::Digest(digest) => Ok(hex::encode(digest)),
            _ => Err(unread()),
        })
    }
}

/// The last handle of all may be the run's; what it frees was never charged to it.
impl Drop for Described {
    fn drop(&mut self) {
        let payload = std::mem::replace(&mut self.payload, Payload::from(""));
        memory::uncharged(|| drop(payload));
    }
}

/// Hands over the bytes; those on disk are read first, as far as the run has room for them.
pub(super) fn with_bytes<T>(
    what: &str,
    payload: &Payload,
    work: impl FnOnce(&[u8]) -> Result<T, Throw>,
) -> Result<T, Throw> {
    if let Some(bytes) = payload.in_memory() {
        return work(bytes);
    }
    reserve(usize::try_from(payload.len()).unwrap_or(usize::MAX))?;
    let call = || Ok(HostCall::Read(vec![payload.clone()]));
    ask(what, call, |reply| match reply {
        HostReply::Bytes(read) => work(read.first().ok_or_else(unread)?),
        _ => Err(unread()),
    })
}

/// The caller sent what it should not have.
pub(super) fn invalid(message: &str) -> Throw {
    thrown(&HostError { code: INVALID_PAYLOAD, message: message.into() })
}

/// Whoever performs the call answers with what was asked for; the script hears of it where that is not so.
pub(super) fn unread() -> Throw {
    fail("the file was not read")
}
