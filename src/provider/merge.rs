//! Many small pieces of a model's answer put together: what a chat completion that was not streamed would have had as its message (OpenAI API
//! reference, "Chat completion chunk" and "Streaming events" of responses).

use serde_json::{Map, Value};

/// The message so far. Of several choices it is the first.
#[derive(Debug, Default)]
pub(super) struct Message {
    fields: Map<String, Value>,
    /// Of the responses API, which says the whole at its end.
    response: Option<Value>,
}

/// Tool calls of one message; what stands at a higher index is no message of a model.
const TOOL_CALLS_MAX: u64 = 1024;

impl Message {
    /// One more piece.
    pub(super) fn add(&mut self, chunk: &Value) {
        if let Some(response) = chunk.get("response").filter(|_| ends_response(chunk)) {
            self.response = Some(response.clone());
            return;
        }
        let Some(choices) = chunk.get("choices").and_then(Value::as_array) else { return };
        for choice in choices {
            if choice.get("index").and_then(Value::as_u64).unwrap_or(0) != 0 {
                continue;
            }
            if let Some(delta) = choice.get("delta").and_then(Value::as_object) {
                merge(&mut self.fields, delta);
            }
        }
    }

    /// All of it. `content` is there, as in an answer that is not streamed.
    pub(super) fn whole(self) -> Value {
        if let Some(response) = self.response {
            return response;
        }
        let mut fields = self.fields;
        fields.entry("role").or_insert_with(|| "assistant".into());
        fields.entry("content").or_insert(Value::Null);
        Value::Object(fields)
    }
}

fn ends_response(chunk: &Value) -> bool {
    let kind = chunk.get("type").and_then(Value::as_str);
    matches!(kind, Some("response.completed" | "response.incomplete"))
}

/// Texts grow, lists are merged by their `index`, maps by their fields; what names something replaces what was there.
fn merge(message: &mut Map<String, Value>, delta: &Map<String, Value>) {
    for (name, value) in delta {
        match (message.get_mut(name), value) {
            (_, Value::Null) => _ = message.entry(name.clone()).or_insert(Value::Null),
            (Some(Value::String(text)), Value::String(more)) if grows(name) => text.push_str(more),
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (Some(Value::Array(old)), Value::Array(new)) => merge_list(old, new),
            (_, Value::Array(new)) => {
                let mut list = Vec::new();
                merge_list(&mut list, new);
                message.insert(name.clone(), Value::Array(list));
            }
            _ => _ = message.insert(name.clone(), value.clone()),
        }
    }
}

/// Names, ids and kinds come whole, and some providers repeat them.
fn grows(name: &str) -> bool {
    !matches!(name, "role" | "id" | "type" | "name")
}

fn merge_list(list: &mut Vec<Value>, pieces: &[Value]) {
    for piece in pieces {
        let index = piece.get("index").and_then(Value::as_u64);
        let (Some(fields), Some(index)) = (piece.as_object(), index) else {
            list.push(piece.clone());
            continue;
        };
        let Some(index) = usize::try_from(index).ok().filter(|_| index < TOOL_CALLS_MAX) else {
            continue;
        };
        if list.len() <= index {
            list.resize(index + 1, Value::Object(Map::new()));
        }
        let mut fields = fields.clone();
        fields.remove("index");
        if let Value::Object(old) = &mut list[index] {
            merge(old, &fields);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(deltas: &[Value]) -> Value {
        let mut message = Message::default();
        for delta in deltas {
            message.add(&json!({ "choices": [{ "index": 0, "delta": delta }] }));
        }
        message.whole()
    }

    #[test]
    fn texts_grow_and_names_do_not() {
        let deltas = [
            json!({ "role": "assistant", "content": "" , "refusal": null }),
            json!({ "content": "Hel" }),
            json!({ "role": "assistant", "content": "lo" }),
            json!({}),
        ];
        let expected = json!({ "role": "assistant", "content": "Hello", "refusal": null });
        assert_eq!(merged(&deltas), expected);
        assert_eq!(merged(&[]), json!({ "role": "assistant", "content": null }));
        let refused = [json!({ "refusal": "I " }), json!({ "refusal": "cannot" })];
        assert_eq!(merged(&refused)["refusal"], "I cannot");
    }

    #[test]
    fn tool_calls_are_put_together_by_their_index() {
        let deltas = [
            json!({ "content": null, "tool_calls": [{ "index": 0, "id": "call_a", "type": "function", "function": { "name": "weather", "arguments": "" } }] }),
            json!({ "tool_calls": [{ "index": 0, "function": { "arguments": "{\"city\":" } }] }),
            json!({ "tool_calls": [{ "index": 1, "id": "call_b", "type": "function", "function": { "name": "time", "arguments": "{" } }] }),
            json!({ "tool_calls": [{ "index": 1, "function": { "arguments": "}" } }, { "index": 0, "function": { "arguments": "\"Rome\"}" } }] }),
            json!({ "tool_calls": [{ "index": 999_999_999, "id": "call_c" }] }),
        ];
        let expected = json!({ "role": "assistant", "content": null, "tool_calls": [
            { "id": "call_a", "type": "function", "function": { "name": "weather", "arguments": "{\"city\":\"Rome\"}" } },
            { "id": "call_b", "type": "function", "function": { "name": "time", "arguments": "{}" } },
        ] });
        assert_eq!(merged(&deltas), expected);
        let older = [
            json!({ "function_call": { "name": "f", "arguments": "{" } }),
            json!({ "function_call": { "arguments": "}" } }),
        ];
        assert_eq!(merged(&older)["function_call"], json!({ "name": "f", "arguments": "{}" }));
    }

    #[test]
    fn of_several_choices_the_first_is_the_message() {
        let mut message = Message::default();
        message.add(&json!({ "choices": [{ "index": 1, "delta": { "content": "no" }, "finish_reason": "length" }] }));
        message.add(&json!({ "choices": [{ "index": 0, "delta": { "content": "yes" }, "finish_reason": null }] }));
        message.add(&json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }));
        assert_eq!(message.whole()["content"], "yes");
    }

    #[test]
    fn the_responses_api_says_the_whole_at_its_end() {
        let mut message = Message::default();
        message.add(&json!({ "type": "response.output_text.delta", "delta": "Hi" }));
        message.add(
            &json!({ "type": "response.completed", "response": { "id": "resp_1", "output": [] } }),
        );
        assert_eq!(message.whole(), json!({ "id": "resp_1", "output": [] }));
    }
}
