//! What an answer says that it used, found where the descriptor says. A stream that did not say it is estimated: it was paid for all the same.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::descriptor::Usage;
use super::descriptor::price::Tokens;
use crate::json::Pointer;

/// Bytes of one token, as OpenAI's own rule of thumb has it.
const BYTES_PER_TOKEN: u64 = 4;

/// What one call used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Used {
    /// Which model answered.
    pub(super) model: Option<Box<str>>,
    /// For its price.
    pub(super) tokens: Tokens,
    /// All of them.
    pub(super) total: u64,
    /// Nobody has said so.
    pub(super) is_estimate: bool,
}

impl Used {
    /// By a whole answer; `None` where it does not say.
    pub(super) fn of_answer(text: &str, usage: &Usage) -> Option<Self> {
        let lists = [&usage.input, &usage.output, &usage.cached, &usage.total];
        let pointers = lists.into_iter().flatten().chain(&usage.model);
        let names: Vec<&str> =
            pointers.filter_map(|pointer| pointer.names().first().map(AsRef::as_ref)).collect();
        let parts = parts(text, &names)?;
        Self::of_parts(&Value::Object(parts), usage)
    }

    /// By what a stream has told of it.
    pub(super) fn of_stream(told: &Value, model: Option<&str>, usage: &Usage) -> Option<Self> {
        let parts = serde_json::json!({ "usage": told });
        let used = Self::of_parts(&parts, usage)?;
        Some(Self { model: model.map(Into::into), ..used })
    }

    /// Of a stream that has sent so many pieces, each of which is about a token, in answer to so many bytes.
    pub(super) fn estimate(asked_bytes: u64, pieces: u64, model: Option<&str>) -> Self {
        let input = asked_bytes / BYTES_PER_TOKEN;
        let tokens = Tokens { input, output: pieces, cached: 0 };
        let total = input.saturating_add(pieces);
        Self { model: model.map(Into::into), tokens, total, is_estimate: true }
    }

    fn of_parts(parts: &Value, usage: &Usage) -> Option<Self> {
        let number =
            |pointers: &[Pointer]| pointers.iter().find_map(|pointer| at(parts, pointer)?.as_u64());
        let (input, output) = (number(&usage.input), number(&usage.output));
        let sum = || match (input, output) {
            (None, None) => None,
            _ => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
        };
        let total = number(&usage.total).or_else(sum)?;
        let tokens = Tokens {
            // Where only the sum is told, it is what was read: embeddings write nothing.
            input: input.unwrap_or(total.saturating_sub(output.unwrap_or(0))),
            output: output.unwrap_or(0),
            cached: number(&usage.cached).unwrap_or(0),
        };
        let model = usage.model.as_ref().and_then(|model| at(parts, model)?.as_str());
        Some(Self { model: model.map(Into::into), tokens, total, is_estimate: false })
    }
}

/// The model that the text of a request names.
pub(super) fn model_of(text: &str) -> Option<Box<str>> {
    let parts = parts(text, &["model"])?;
    parts.get("model").and_then(Value::as_str).map(Into::into)
}

fn at<'v>(value: &'v Value, pointer: &Pointer) -> Option<&'v Value> {
    pointer.names().iter().try_fold(value, |value, name| match value {
        Value::Object(fields) => fields.get(&**name),
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The fields of an object that have one of these names, in one go over the text: embeddings have megabytes beside them.
fn parts(text: &str, names: &[&str]) -> Option<Map<String, Value>> {
    Parts(names).deserialize(&mut serde_json::Deserializer::from_str(text)).ok()
}

struct Parts<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Parts<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Parts<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut parts = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if self.0.contains(&&*name) {
                let value = map.next_value::<Value>()?;
                _ = parts.insert(name, value);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::descriptor::Descriptor;
    use super::*;
    use crate::config::ProviderKind;

    fn usage() -> Usage {
        Descriptor::built_in(ProviderKind::OpenAi).usage.clone().unwrap()
    }

    #[test]
    fn what_openai_answers_says_what_it_used_in_each_of_its_forms() {
        let check = |answer: Value, expected: Option<(&str, [u64; 4])>| {
            let used = Used::of_answer(&answer.to_string(), &usage());
            let Tokens { input, output, cached } =
                used.as_ref().map(|used| used.tokens).unwrap_or_default();
            let found = used.as_ref().map(|used| {
                (used.model.as_deref().unwrap_or(""), [input, output, cached, used.total])
            });
            assert_eq!(found, expected, "{answer}");
        };
        check(
            json!({ "model": "gpt-5", "choices": [[{}]], "usage": {
                "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "prompt_tokens_details": { "cached_tokens": 4 },
            } }),
            Some(("gpt-5", [10, 5, 4, 15])),
        );
        check(
            json!({ "model": "gpt-5", "usage": {
                "input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "input_tokens_details": { "cached_tokens": 4 },
            } }),
            Some(("gpt-5", [10, 5, 4, 15])),
        );
        check(
            json!({ "data": [{ "embedding": [0.1] }], "usage": { "prompt_tokens": 8, "total_tokens": 8 } }),
            Some(("", [8, 0, 0, 8])),
        );
        check(json!({ "usage": { "total_tokens": 8 } }), Some(("", [8, 0, 0, 8])));
        check(json!({ "usage": { "output_tokens": 3 } }), Some(("", [0, 3, 0, 3])));
        check(json!({ "usage": { "type": "duration", "seconds": 3 } }), None);
        for nothing in [
            json!({ "usage": null }),
            json!({ "usage": { "total_tokens": -1 } }),
            json!({ "usage": { "total_tokens": "7" } }),
            json!({}),
            json!([]),
            json!("usage"),
        ] {
            check(nothing, None);
        }
        assert_eq!(Used::of_answer("{\"usage\":", &usage()), None);
    }

    #[test]
    fn a_stream_is_counted_by_what_it_told_or_estimated() {
        let told = json!({ "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 });
        let used = Used::of_stream(&told, Some("gpt-5"), &usage()).unwrap();
        assert_eq!(
            (used.total, used.model.as_deref(), used.is_estimate),
            (15, Some("gpt-5"), false)
        );
        assert_eq!(Used::of_stream(&json!({}), None, &usage()), None);
        let used = Used::estimate(401, 7, None);
        assert_eq!((used.total, used.tokens.output, used.is_estimate), (107, 7, true));
    }

    #[test]
    fn a_request_names_its_model() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(model_of(text).as_deref(), expected, "{text}");
        };
        check(r#"{"messages":[{"model":"no"}],"model":"gpt-5"}"#, Some("gpt-5"));
        check(r#"{"model":5}"#, None);
        check("[]", None);
        check("--boundary", None);
    }
}
