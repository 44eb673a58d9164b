//! A form with files (`multipart/form-data`) as scripts see it: the plain fields as a map, the files as handles into the body that brought them.

use rhai::{Array, Dynamic, Map};

use super::file::{File, unread};
use super::form;
use crate::memory;
use crate::multipart::Part;
use crate::payload::Payload;
use crate::script::builtins::ending::reserve;
use crate::script::current::{Throw, ask};
use crate::script::host_call::{HostCall, HostReply};

/// `files`, in their order.
pub(super) fn files(parts: &[Part], body: &Payload) -> Array {
    let file = |part: &Part| {
        let name = part.file_name.clone()?;
        let view = memory::uncharged(|| body.slice(part.range.clone()));
        // RFC 2046, section 4.5.1: of an unknown kind.
        let content_type = part.content_type.as_deref().unwrap_or("application/octet-stream");
        let file =
            File::new(&view, Some(part.field.clone()), Some(name), Some(content_type.into()));
        memory::uncharged(|| drop(view));
        Some(Dynamic::from(file))
    };
    parts.iter().filter_map(file).collect()
}

/// `form`: what is no file, as text. A name that comes more than once gives an array.
pub(super) fn fields(parts: &[Part], body: &Payload) -> Result<Map, Throw> {
    let fields = || parts.iter().filter(|part| part.file_name.is_none());
    let bytes: u64 = fields().map(|part| part.range.end - part.range.start).sum();
    reserve(usize::try_from(bytes).unwrap_or(usize::MAX))?;
    if let Some(body) = body.in_memory() {
        // Where the body is in memory, so are all offsets into it.
        let at = |offset: u64| usize::try_from(offset).unwrap_or(body.len());
        let values = fields().map(|part| &body[at(part.range.start)..at(part.range.end)]);
        return Ok(map(fields().zip(values)));
    }
    let call = || Ok(HostCall::Read(fields().map(|part| body.slice(part.range.clone())).collect()));
    ask("form", call, |reply| match reply {
        HostReply::Bytes(values) => Ok(map(fields().zip(values.iter().map(AsRef::as_ref)))),
        _ => Err(unread()),
    })
}

fn map<'part, 'value>(fields: impl Iterator<Item = (&'part Part, &'value [u8])>) -> Map {
    let mut map = Map::new();
    for (part, value) in fields {
        form::insert(&mut map, &part.field, String::from_utf8_lossy(value).into_owned().into());
    }
    map
}
