//! `POST /v1/chat/completions`: one object, or chunks as server-sent events that end with `[DONE]`.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::ids::Ids;
use super::error::{Outcome, Problem};
use super::reply::{self, Call, Prompt, Reply, Usage};
use super::{data, model_of};

/// Choices of one request.
const CHOICES_MAX: u64 = 8;
/// What says who may speak.
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// Everything about one completion but what it says.
struct Completion {
    id: String,
    created: i64,
    model: &'static str,
    fingerprint: String,
}

pub(super) fn create(body: &Value, ids: &mut Ids, seconds: i64) -> Outcome {
    let model = model_of(body)?;
    let messages = messages(body)?;
    let choices = body["n"].as_u64().unwrap_or(1);
    if !(1..=CHOICES_MAX).contains(&choices) {
        let message = format!("Invalid 'n': expected a value between 1 and {CHOICES_MAX}.");
        return Err(Problem::bad(message, "n").with_code("integer_out_of_range"));
    }
    let prompt = prompt(body, messages);
    let replies: Vec<Reply> = (0..choices).map(|_| reply::to(&prompt, ids)).collect();
    let told: u32 = messages.iter().map(|message| reply::tokens(&message.to_string())).sum();
    let usage = Usage { input: told, output: replies.iter().map(Reply::tokens).sum() };
    let completion = Completion {
        id: ids.next("chatcmpl-", 29),
        created: seconds,
        model,
        fingerprint: ids.hex("fp_", 10),
    };
    let answer = if body["stream"] == true {
        let with_usage = body["stream_options"]["include_usage"] == true;
        Answer::events(stream(&completion, &replies, with_usage.then_some(usage)))
    } else {
        Answer::ok(&whole(&completion, &replies, usage))
    };
    Ok((answer, Some(usage)))
}

fn messages(body: &Value) -> Result<&[Value], Problem> {
    let messages = match &body["messages"] {
        Value::Array(messages) => messages,
        Value::Null => return Err(Problem::missing("messages")),
        _ => {
            let message = "Invalid type for 'messages': expected an array of objects.";
            return Err(Problem::bad(message, "messages").with_code("invalid_type"));
        }
    };
    if messages.is_empty() {
        let message = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.";
        return Err(Problem::bad(message, "messages").with_code("empty_array"));
    }
    for (number, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        if !ROLES.contains(&role) {
            let param = format!("messages[{number}].role");
            let message = format!(
                "Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', 'function', 'tool', and 'developer'."
            );
            return Err(Problem::bad(message, &param).with_code("invalid_value"));
        }
    }
    Ok(messages)
}

fn prompt<'a>(body: &'a Value, messages: &'a [Value]) -> Prompt<'a> {
    let last_of = |role| messages.iter().rev().find(move |message| message["role"] == role);
    let tool_result = messages.last().filter(|message| message["role"] == "tool").map(text);
    let tools = body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let tools = tools.iter().filter_map(|tool| {
        let function = &tool["function"];
        Some((function["name"].as_str()?, &function["parameters"]))
    });
    let choice = &body["tool_choice"];
    Prompt {
        text: last_of("user").map(text).unwrap_or_default(),
        tool_result,
        tools: tools.collect(),
        tool_choice: choice.as_str().or_else(|| choice["function"]["name"].as_str()),
        tokens_max: body["max_completion_tokens"].as_u64().or_else(|| body["max_tokens"].as_u64()),
    }
}

/// A message's text: its content, or the first part of it that is text.
fn text(message: &Value) -> &str {
    let content = &message["content"];
    let part = || content.as_array()?.iter().find_map(|part| part["text"].as_str());
    content.as_str().or_else(part).unwrap_or_default()
}

fn whole(completion: &Completion, replies: &[Reply], usage: Usage) -> Value {
    let choices: Vec<Value> = replies
        .iter()
        .enumerate()
        .map(|(index, reply)| {
            let mut message = json!({
                "role": "assistant", "content": null, "refusal": null, "annotations": [],
            });
            match reply {
                Reply::Text { pieces, .. } => message["content"] = pieces.concat().into(),
                Reply::Tools(calls) => {
                    message["tool_calls"] =
                        calls.iter().map(|call| tool_call(call, &call.arguments)).collect();
                }
            }
            json!({
                "index": index,
                "message": message,
                "logprobs": null,
                "finish_reason": finish_reason(reply),
            })
        })
        .collect();
    json!({
        "id": completion.id,
        "object": "chat.completion",
        "created": completion.created,
        "model": completion.model,
        "choices": choices,
        "usage": usage_of(usage),
        "service_tier": "default",
        "system_fingerprint": completion.fingerprint,
    })
}

fn stream(completion: &Completion, replies: &[Reply], usage: Option<Usage>) -> Vec<Bytes> {
    let chunk = |choices: Value| {
        let mut chunk = json!({
            "id": completion.id,
            "object": "chat.completion.chunk",
            "created": completion.created,
            "model": completion.model,
            "service_tier": "default",
            "system_fingerprint": completion.fingerprint,
            "choices": choices,
        });
        // Where usage is asked for, each chunk has the field, and only the last one a value.
        if usage.is_some() {
            chunk["usage"] = Value::Null;
        }
        chunk
    };
    let mut pieces = Vec::new();
    for (index, reply) in replies.iter().enumerate() {
        let mut send = |delta: Value, finish_reason: Option<&str>| {
            let choice = json!({
                "index": index, "delta": delta, "logprobs": null, "finish_reason": finish_reason,
            });
            pieces.push(data(&chunk(json!([choice]))));
        };
        deltas(reply, |delta| send(delta, None));
        send(json!({}), Some(finish_reason(reply)));
    }
    if let Some(usage) = usage {
        let mut last = chunk(json!([]));
        last["usage"] = usage_of(usage);
        pieces.push(data(&last));
    }
    pieces.push(Bytes::from_static(b"data: [DONE]\n\n"));
    pieces
}

fn deltas(reply: &Reply, mut send: impl FnMut(Value)) {
    match reply {
        Reply::Text { pieces, .. } => {
            send(json!({ "role": "assistant", "content": "", "refusal": null }));
            for piece in pieces {
                send(json!({ "content": piece }));
            }
        }
        Reply::Tools(calls) => {
            send(json!({ "role": "assistant", "content": null, "refusal": null }));
            for (index, call) in calls.iter().enumerate() {
                let mut start = tool_call(call, "");
                start["index"] = index.into();
                send(json!({ "tool_calls": [start] }));
                for piece in call.pieces() {
                    send(
                        json!({ "tool_calls": [{ "index": index, "function": { "arguments": piece } }] }),
                    );
                }
            }
        }
    }
}

fn tool_call(call: &Call, arguments: &str) -> Value {
    json!({
        "id": call.id,
        "type": "function",
        "function": { "name": call.name, "arguments": arguments },
    })
}

fn finish_reason(reply: &Reply) -> &'static str {
    match reply {
        Reply::Text { is_cut: true, .. } => "length",
        Reply::Text { is_cut: false, .. } => "stop",
        Reply::Tools(_) => "tool_calls",
    }
}

fn usage_of(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total(),
        "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}
