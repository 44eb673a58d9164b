//! `stream(|out| …)` as the result of a route: the closure runs after what the handler did is committed, and what it gives to `out` goes to the
//! client as it is given. `out.send(x)` writes text or bytes, `out.event(map)` an event of an event stream (WHATWG HTML, "Server-sent events").
//!
//! Nothing of the closure runs before the driver has agreed to the stream, and a piece never leaves the run before there is room for it.

use std::rc::Rc;

use rhai::{
    Blob, Dynamic, Engine, FnPtr, GlobalRuntimeState, ImmutableString, Map, Module,
    NativeCallContext, Position,
};

use super::respond::{self, Answer};
use crate::script::builtins::ending::{refused, reserve};
use crate::script::builtins::set;
use crate::script::current::{Throw, ask, in_handler};
use crate::script::host_call::{Form, HostCall, PIECE_BYTES_MAX};
use crate::script::parallel::takes_other;
use crate::script::value::{self, Kind, Limits, kind};
use crate::units;

/// Characters of an event's name or id; what a client sends back as `last-event-id` has to fit into a header.
const NAME_MAX: usize = 512;

/// What `stream(…)` gives: a result that is yet to be written.
#[derive(Clone)]
pub(crate) struct Streamed(Rc<Writing>);

struct Writing {
    /// Status and headers; its body is what the closure writes.
    head: Answer,
    write: FnPtr,
    /// Where it was called: there the closure finds the functions and imports that its author sees.
    state: GlobalRuntimeState,
    position: Position,
}

/// The value that the closure gets.
#[derive(Clone, Copy)]
pub(crate) struct Out;

/// The functions.
pub(crate) fn register(module: &mut Module) {
    module.set_custom_type::<Streamed>("Streamed");
    module.set_custom_type::<Out>("Out");
    set(module, "stream", |context: NativeCallContext<'_>, write: FnPtr| {
        stream(&context, Map::new(), write)
    });
    set(module, "stream", |context: NativeCallContext<'_>, options: Map, write: FnPtr| {
        stream(&context, options, write)
    });
    set(module, "send", |_out: Out, piece: Dynamic| send(&piece));
    set(module, "event", |_out: Out, event: Map| {
        let text = event_text(&event)?;
        write(text.as_bytes(), Form::Event)
    });
}

/// The stream that a handler's result is, else the result as it was.
pub(crate) fn of(result: Dynamic) -> Result<Streamed, Dynamic> {
    result.try_cast_result::<Streamed>()
}

impl Streamed {
    /// Writes it: what the run did before is committed first. Gives the answer that stands for one that has gone out already.
    pub(crate) fn write(&self, engine: &Engine) -> Result<Answer, Throw> {
        let Writing { head, write, state, position } = &*self.0;
        let begin = || Ok(HostCall::BeginStream(Box::new(head.clone())));
        ask("stream", begin, |_agreed| Ok(())).map_err(|mut error| {
            error.set_position(*position);
            error
        })?;
        let context =
            NativeCallContext::new_with_all_fields(engine, "stream", None, state, *position);
        let written = write.call_raw(&context, None, [Dynamic::from(Out)]);
        let written = written.map_err(|error| match takes_other(write, &error) {
            true => refused("`stream` calls its closure with what it writes to: write `|out| …`"),
            false => error,
        });
        written.map(|_result| Answer::empty(head.status))
    }
}

fn stream(context: &NativeCallContext<'_>, options: Map, write: FnPtr) -> Result<Streamed, Throw> {
    in_handler("stream")?;
    let head = respond::head(options)?;
    let state = context.global_runtime_state().clone();
    let position = context.call_position();
    Ok(Streamed(Rc::new(Writing { head, write, state, position })))
}

fn send(piece: &Dynamic) -> Result<(), Throw> {
    if let Some(text) = piece.read_lock::<ImmutableString>() {
        return write(text.as_bytes(), Form::Text);
    }
    if let Some(blob) = piece.read_lock::<Blob>() {
        return write(&blob, Form::Bytes);
    }
    let kind = kind(piece);
    let hint = match kind {
        Kind::Map | Kind::Array => "; write `json::stringify(x)`, or `out.event(#{ data: x })`",
        Kind::Unit => "; is the field missing?",
        _ => "",
    };
    Err(refused(&format!("`send` takes a string or a blob, not {}{hint}", kind.words())))
}

/// Piece by piece, so that no more than one of them is on its way.
fn write(bytes: &[u8], form: Form) -> Result<(), Throw> {
    for piece in bytes.chunks(PIECE_BYTES_MAX) {
        let call = || Ok(HostCall::Write { bytes: piece.to_vec(), form });
        ask("stream", call, |_taken| Ok(()))?;
    }
    Ok(())
}

/// An event as it goes over the wire, with the empty line that ends it.
fn event_text(event: &Map) -> Result<String, Throw> {
    let mut text = String::new();
    for (field, value) in event {
        match field.as_str() {
            "event" => push(&mut text, "event", &name("event", value)?),
            "id" => push(&mut text, "id", &name("id", value)?),
            "retry" => push(&mut text, "retry", &retry(value)?),
            "data" => push_data(&mut text, value)?,
            _ => {
                return Err(refused(&format!(
                    "unknown field `{field}` of an event; it has event, data, id, retry"
                )));
            }
        }
    }
    if !event.contains_key("data") && (event.is_empty() || event.contains_key("event")) {
        return Err(refused("an event without `data` reaches nobody"));
    }
    text.push('\n');
    Ok(text)
}

fn push(text: &mut String, field: &str, value: &str) {
    for part in [field, ": ", value, "\n"] {
        text.push_str(part);
    }
}

/// A string goes out as it is, a line each; everything else as JSON.
fn push_data(text: &mut String, value: &Dynamic) -> Result<(), Throw> {
    let json;
    let string = value.read_lock::<ImmutableString>();
    let data = match &string {
        Some(string) => string.as_str(),
        None => {
            json = value::to_json(value, Limits::NONE)?;
            &json
        }
    };
    // Each line gets its field; lines may be empty.
    let lines = data.bytes().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 1;
    reserve(data.len().saturating_add(lines.saturating_mul("data: \n".len())))?;
    for line in
        data.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
    {
        push(text, "data", line);
    }
    Ok(())
}

fn name(field: &str, value: &Dynamic) -> Result<String, Throw> {
    let text = match value.as_int() {
        Ok(number) if field == "id" => Some(number.to_string()),
        _ => value.read_lock::<ImmutableString>().map(|text| text.to_string()),
    };
    text.filter(|text| text.len() <= NAME_MAX && !text.contains(['\n', '\r', '\0'])).ok_or_else(
        || {
            refused(&format!(
                "`{field}` of an event is a string of one line, {NAME_MAX} bytes at most"
            ))
        },
    )
}

fn retry(value: &Dynamic) -> Result<String, Throw> {
    let given = match value.as_int() {
        Ok(number) => number.to_string(),
        Err(_) => value.clone().into_string().unwrap_or_default(),
    };
    let duration = units::parse_duration(&given).map_err(|error| {
        refused(&format!("`retry` of an event is a duration such as \"5s\": {error}"))
    })?;
    Ok(duration.as_millis().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::builtins::testing::engine;

    fn text(map: &str) -> Result<String, String> {
        let map = engine().eval::<Map>(map).unwrap();
        event_text(&map).map_err(|error| error.to_string())
    }

    #[test]
    fn an_event_is_written_line_by_line_whatever_ends_its_lines() {
        let check = |map: &str, expected: &str| assert_eq!(text(map).as_deref(), Ok(expected));
        check(r#"#{ data: "a" }"#, "data: a\n\n");
        check(r#"#{ data: "" }"#, "data: \n\n");
        check(r#"#{ data: "a\nb\r\nc\rd\n" }"#, "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n");
        check(r#"#{ data: "\r\n\n" }"#, "data: \ndata: \ndata: \n\n");
        check(r#"#{ data: #{ a: [1, ()] } }"#, "data: {\"a\":[1,null]}\n\n");
        check(r#"#{ data: (), event: "x", id: 7 }"#, "data: null\nevent: x\nid: 7\n\n");
        check(r#"#{ retry: "1500ms", id: "" }"#, "id: \nretry: 1500\n\n");
    }

    #[test]
    fn what_would_break_an_event_or_reach_nobody_is_refused() {
        let check = |map: &str, part: &str| {
            let error = text(map).unwrap_err();
            assert!(error.contains(part), "{map}: {error}");
        };
        check("#{}", "reaches nobody");
        check(r#"#{ event: "x" }"#, "reaches nobody");
        check(r#"#{ event: "a\nb", data: 1 }"#, "one line");
        check(r#"#{ id: "a\x00", data: 1 }"#, "one line");
        check(r#"#{ event: 1, data: 1 }"#, "one line");
        check(r#"#{ retry: 1000 }"#, "duration");
        check(r#"#{ date: 1 }"#, "unknown field `date`");
        check(r#"#{ data: || 1 }"#, "function");
    }
}
