//! `POST /v1/embeddings`: vectors of length 1 that follow from the text alone, so that the same text is near itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::super::answer::Answer;
use super::error::{Outcome, Problem};
use super::model_of;
use super::reply::{self, Usage};

/// Texts of one request, as the reference has it.
const INPUTS_MAX: usize = 2_048;

pub(super) fn create(body: &Value) -> Outcome {
    let model = model_of(body)?;
    let dimensions_max = match model {
        "text-embedding-3-small" => 1536,
        "text-embedding-3-large" => 3072,
        _ => {
            let message = "You are not allowed to generate embeddings from this model";
            return Err(Problem::new(StatusCode::FORBIDDEN, message));
        }
    };
    let inputs: Vec<&str> = match &body["input"] {
        Value::String(text) => vec![text],
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect(),
        _ => return Err(Problem::missing("input")),
    };
    if inputs.is_empty() || inputs.len() > INPUTS_MAX || inputs.contains(&"") {
        return Err(Problem::bad("'$.input' is invalid.", "input"));
    }
    let dimensions = body["dimensions"].as_u64().unwrap_or(dimensions_max);
    if !(1..=dimensions_max).contains(&dimensions) {
        let message =
            format!("Invalid 'dimensions': expected a value between 1 and {dimensions_max}.");
        return Err(Problem::bad(message, "dimensions"));
    }
    let is_base64 = body["encoding_format"] == "base64";
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let vector = vector(text, dimensions);
            let embedding = if is_base64 {
                let bytes: Vec<u8> =
                    vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                json!(BASE64.encode(bytes))
            } else {
                json!(vector)
            };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let usage = Usage { input: inputs.iter().map(|text| reply::tokens(text)).sum(), output: 0 };
    let counted = json!({ "prompt_tokens": usage.input, "total_tokens": usage.total() });
    let answer = json!({ "object": "list", "data": data, "model": model, "usage": counted });
    Ok((Answer::ok(&answer), Some(usage)))
}

fn vector(text: &str, dimensions: u64) -> Vec<f32> {
    // FNV-1a: any fixed function of the text does.
    let seed = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut chance = fastrand::Rng::with_seed(seed);
    let raw: Vec<f32> = (0..dimensions).map(|_| chance.f32() - 0.5).collect();
    let length =
        raw.iter().map(|number| number * number).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    raw.into_iter().map(|number| number / length).collect()
}
