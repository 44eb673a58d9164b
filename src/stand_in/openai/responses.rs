//! `POST /v1/responses`: one object, or named server-sent events that end with `response.completed`.

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::ids::Ids;
use super::super::objects::Objects;
use super::error::{Outcome, Problem};
use super::model_of;
use super::reply::{self, Prompt, Reply, Usage};

pub(super) fn create(body: &Value, known: &mut Objects, ids: &mut Ids, seconds: i64) -> Outcome {
    let model = model_of(body)?;
    if body["input"].is_null() {
        return Err(Problem::missing("input"));
    }
    if let Some(previous) = body["previous_response_id"].as_str()
        && known.get(previous).is_none()
    {
        let message = format!("Previous response with id '{previous}' not found.");
        return Err(
            Problem::bad(message, "previous_response_id").with_code("previous_response_not_found")
        );
    }
    let reply = reply::to(&prompt(body), ids);
    let usage = Usage { input: reply::tokens(&body["input"].to_string()), output: reply.tokens() };
    let items = items(&reply, ids);
    let mut response = json!({
        "id": ids.hex("resp_", 48),
        "object": "response",
        "created_at": seconds,
        "status": "in_progress",
        "error": null,
        "incomplete_details": null,
        "instructions": body["instructions"],
        "max_output_tokens": body["max_output_tokens"],
        "model": model,
        "output": [],
        "parallel_tool_calls": true,
        "previous_response_id": body["previous_response_id"],
        "store": body["store"].as_bool().unwrap_or(true),
        "tool_choice": body.get("tool_choice").cloned().unwrap_or_else(|| "auto".into()),
        "tools": body.get("tools").cloned().unwrap_or_else(|| json!([])),
        "usage": null,
        "metadata": body.get("metadata").cloned().unwrap_or_else(|| json!({})),
    });
    let mut events = Events::default();
    events.push("response.created", json!({ "response": response }));
    events.push("response.in_progress", json!({ "response": response }));
    for (index, item) in items.iter().enumerate() {
        say(item, index, &reply, &mut events);
    }
    let end = finish(&mut response, items, &reply, usage);
    events.push(end, json!({ "response": response }));
    let answer =
        if body["stream"] == true { Answer::events(events.sent) } else { Answer::ok(&response) };
    if response["store"] == true {
        known.insert(response);
    }
    Ok((answer, Some(usage)))
}

pub(super) fn not_found(id: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("Response with id '{id}' not found."))
}

/// Events of one stream, numbered.
#[derive(Default)]
struct Events {
    sent: Vec<Bytes>,
}

impl Events {
    fn push(&mut self, name: &str, mut event: Value) {
        event["type"] = name.into();
        event["sequence_number"] = self.sent.len().into();
        self.sent.push(Bytes::from(format!("event: {name}\ndata: {event}\n\n")));
    }
}

fn prompt(body: &Value) -> Prompt<'_> {
    let input = body["input"].as_array().map(Vec::as_slice).unwrap_or_default();
    let from_user = input.iter().rev().find(|item| item["role"] == "user").map(text);
    let tool_result = input
        .last()
        .filter(|item| item["type"] == "function_call_output")
        .map(|item| item["output"].as_str().unwrap_or_default());
    let tools = body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let tools = tools.iter().filter_map(|tool| Some((tool["name"].as_str()?, &tool["parameters"])));
    let choice = &body["tool_choice"];
    Prompt {
        text: body["input"].as_str().or(from_user).unwrap_or_default(),
        tool_result,
        tools: tools.collect(),
        tool_choice: choice.as_str().or_else(|| choice["name"].as_str()),
        tokens_max: body["max_output_tokens"].as_u64(),
    }
}

fn text(item: &Value) -> &str {
    let content = &item["content"];
    let part = || content.as_array()?.iter().find_map(|part| part["text"].as_str());
    content.as_str().or_else(part).unwrap_or_default()
}

/// The items of the output as they are in the end.
fn items(reply: &Reply, ids: &mut Ids) -> Vec<Value> {
    match reply {
        Reply::Text { pieces, .. } => vec![json!({
            "id": ids.hex("msg_", 48),
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [part(&pieces.concat())],
        })],
        Reply::Tools(calls) => calls
            .iter()
            .map(|call| {
                json!({
                    "id": ids.hex("fc_", 48),
                    "type": "function_call",
                    "status": "completed",
                    "call_id": call.id,
                    "name": call.name,
                    "arguments": call.arguments,
                })
            })
            .collect(),
    }
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

/// The events of one item, from `added` to `done`.
fn say(item: &Value, index: usize, reply: &Reply, events: &mut Events) {
    let mut started = item.clone();
    started["status"] = "in_progress".into();
    let at = |mut event: Value| {
        event["item_id"] = item["id"].clone();
        event["output_index"] = index.into();
        event
    };
    match reply {
        Reply::Text { pieces, .. } => {
            started["content"] = json!([]);
            let text = pieces.concat();
            let in_part = |mut event: Value| {
                event["content_index"] = 0.into();
                at(event)
            };
            events.push(
                "response.output_item.added",
                json!({ "output_index": index, "item": started }),
            );
            events.push("response.content_part.added", in_part(json!({ "part": part("") })));
            for piece in pieces {
                events.push(
                    "response.output_text.delta",
                    in_part(json!({ "delta": piece, "logprobs": [] })),
                );
            }
            events.push(
                "response.output_text.done",
                in_part(json!({ "text": text, "logprobs": [] })),
            );
            events.push("response.content_part.done", in_part(json!({ "part": part(&text) })));
        }
        Reply::Tools(calls) => {
            started["arguments"] = "".into();
            events.push(
                "response.output_item.added",
                json!({ "output_index": index, "item": started }),
            );
            for piece in calls.get(index).into_iter().flat_map(|call| call.pieces()) {
                events
                    .push("response.function_call_arguments.delta", at(json!({ "delta": piece })));
            }
            let done = json!({ "arguments": item["arguments"], "name": item["name"] });
            events.push("response.function_call_arguments.done", at(done));
        }
    }
    events.push("response.output_item.done", json!({ "output_index": index, "item": item }));
}

/// Brings the response to its end; the name of the event that says so.
fn finish(response: &mut Value, items: Vec<Value>, reply: &Reply, usage: Usage) -> &'static str {
    response["output"] = items.into();
    response["usage"] = json!({
        "input_tokens": usage.input,
        "input_tokens_details": { "cached_tokens": 0 },
        "output_tokens": usage.output,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": usage.total(),
    });
    if let Reply::Text { is_cut: true, .. } = reply {
        response["status"] = "incomplete".into();
        response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        return "response.incomplete";
    }
    response["status"] = "completed".into();
    "response.completed"
}
