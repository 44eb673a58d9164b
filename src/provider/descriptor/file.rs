//! A descriptor as written: plain structs, each value with its place. The doc of a field is the doc of its key. Nothing is judged here but
//! which keys there are and of what type; `build.rs` does the rest.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Spanned, Value};

/// A text and its place.
pub(super) type Text = Spanned<String>;
/// Texts and their places.
pub(super) type Texts = Vec<Spanned<String>>;

/// The whole of one.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    /// Where the API is described. Default: none.
    pub(super) docs: Option<Text>,
    /// What paths are added to. Default: config.toml must say it.
    pub(super) base_url: Option<Text>,
    /// `bearer`, `basic`, `none`, `{ header = "x-api-key" }` or `{ query = "key" }`. Default: `none`.
    pub(super) auth: Option<Spanned<Value>>,
    /// Of params in a body: `json`, `form` or `multipart`. Default: `json`.
    pub(super) encoding: Option<Text>,
    /// After an unknown outcome: `safe` or `stop`. Default: `safe`.
    pub(super) repeat: Option<Text>,
    /// Published limits, such as `["100/s"]`. Default: none.
    pub(super) rate_limit: Option<Texts>,
    /// Headers of every call. Default: none.
    pub(super) headers: BTreeMap<Text, Text>,
    /// How lists and nulls are written in forms and queries.
    pub(super) form: Form,
    /// What errors look like.
    pub(super) errors: Errors,
    /// Errors that come with a status below 400. Default: none.
    pub(super) error_when: Option<Spanned<ErrorWhen>>,
    /// Headers about what is left of the limits. Default: none.
    pub(super) rate_headers: Option<RateHeaders>,
    /// How a call that comes again is known. Default: not at all.
    pub(super) idempotency: Option<Spanned<Idempotency>>,
    /// Ways of going on in a list, by names of your own.
    pub(super) pages: BTreeMap<String, Spanned<Page>>,
    /// Where answers tell what they used. Default: nowhere.
    pub(super) usage: Option<Usage>,
    /// What that costs. Default: nothing.
    pub(super) prices: Option<Prices>,
    /// What can be asked, by dotted names.
    pub(super) operations: BTreeMap<Text, Spanned<Operation>>,
}

/// `[form]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Form {
    /// `indexed`, `brackets` or `repeated`. Default: `repeated`.
    pub(super) arrays: Option<Text>,
    /// `empty` or `omitted`. Default: `omitted`.
    pub(super) nulls: Option<Text>,
}

/// `[errors]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Errors {
    /// Pointers to what a person reads; the first that is there counts.
    pub(super) message: Option<Texts>,
    /// Pointers to the provider's own code.
    pub(super) code: Option<Texts>,
    /// Pointers to the kind of the error.
    pub(super) kind: Option<Texts>,
    /// Our code for a status.
    pub(super) status: BTreeMap<Text, Text>,
    /// Our code for a code of the provider.
    pub(super) codes: BTreeMap<Text, Text>,
}

/// `error_when`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ErrorWhen {
    /// What is looked at. Required.
    pub(super) pointer: Option<Text>,
    /// The value that means an error: text, a whole number, true or false. Required.
    pub(super) equals: Option<Spanned<Value>>,
    /// Where the provider's code stands. Default: as in `[errors]`.
    pub(super) code: Option<Text>,
    /// Where the message stands. Default: as in `[errors]`.
    pub(super) message: Option<Text>,
}

/// `[rate_headers]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RateHeaders {
    /// `durations`, `seconds` or `epoch`. Required.
    pub(super) dialect: Option<Text>,
    /// By what is counted: `requests`, `tokens`.
    pub(super) buckets: BTreeMap<String, Spanned<Bucket>>,
    /// What tells whether a refusal is about one operation or about all of them. Default: all.
    pub(super) reason: Option<Spanned<Reason>>,
}

/// `[rate_headers.buckets.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Bucket {
    /// The header that says how much there is. Required.
    pub(super) limit: Option<Text>,
    /// The header that says how much is left. Required.
    pub(super) remaining: Option<Text>,
    /// The header that says when it is full again. Required.
    pub(super) reset: Option<Text>,
    /// The header that names it, where one answer tells of one of several. Default: none.
    pub(super) name_from: Option<Text>,
}

/// `reason` of `[rate_headers]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Reason {
    /// The header. Required.
    pub(super) header: Option<Text>,
    /// Its values that mean the operation alone.
    pub(super) operation: Texts,
}

/// `[idempotency]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Idempotency {
    /// The header of the key. Required.
    pub(super) header: Option<Text>,
    /// How long the provider remembers a key, 1s to 365d. Required.
    pub(super) key_ttl: Option<Text>,
    /// For which verbs. Default: `["POST"]`.
    pub(super) methods: Option<Texts>,
}

/// `[pages.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Page {
    /// `whole`, `last_id`, `offset`, `cursor`, `url`, `link` or `number`. Required.
    pub(super) kind: Option<Text>,
    /// Pointers to the items; the first that is a list counts. Default: `[""]`, the answer itself.
    pub(super) items: Option<Texts>,
    /// The field of the query that asks for the next page.
    pub(super) param: Option<Text>,
    /// With `last_id`: where an item has its id. Default: `/id`.
    pub(super) id: Option<Text>,
    /// With `cursor`: where the answer has the cursor.
    pub(super) cursor: Option<Text>,
    /// With `last_id` and `cursor`: where the answer says whether there are more.
    pub(super) more: Option<Text>,
    /// With `offset`: where the answer says how many there are.
    pub(super) total: Option<Text>,
    /// With `url`: where the answer has the URL of the next page.
    pub(super) url: Option<Text>,
    /// With `number`: the number of the first page, 0 or 1. Default: 1.
    pub(super) first: Option<Spanned<i64>>,
    /// With `number`: where the answer says how many pages there are.
    pub(super) pages: Option<Text>,
    /// How the size of a page is asked for.
    pub(super) size: Option<Spanned<Size>>,
}

/// `size` of a page
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Size {
    /// The field of the query. Required.
    pub(super) param: Option<Text>,
    /// The most that it may say, 1 to 100000. Required.
    pub(super) max: Option<Spanned<i64>>,
}

/// `[usage]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Usage {
    /// Which model answered.
    pub(super) model: Option<Text>,
    /// Tokens read.
    pub(super) input: Texts,
    /// Tokens written.
    pub(super) output: Texts,
    /// Tokens read from a cache.
    pub(super) cached: Texts,
    /// All of them.
    pub(super) total: Texts,
}

/// `[prices]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Prices {
    /// The day on which they were read: `2026-06-21`. Required.
    pub(super) as_of: Option<Text>,
    /// By the name of the model.
    pub(super) models: BTreeMap<String, Spanned<Price>>,
}

/// US dollars a million tokens, 0 to 10000
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Price {
    /// Of what is read. Required.
    pub(super) input: Option<Spanned<f64>>,
    /// Of what is written. Required.
    pub(super) output: Option<Spanned<f64>>,
    /// Of what is read from a cache. Default: as `input`.
    pub(super) cached: Option<Spanned<f64>>,
}

/// `[operations."resource.operation"]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Operation {
    /// `GET`, `HEAD`, `POST`, `PUT`, `PATCH` or `DELETE`. Required.
    pub(super) method: Option<Text>,
    /// Below `base_url`, with `{name}` for parameters. Required.
    pub(super) path: Option<Text>,
    /// `body`, `query` or `none`. Default: by the method.
    pub(super) params: Option<Text>,
    /// Default: that of the file.
    pub(super) encoding: Option<Text>,
    /// `openai-chat`, `openai-responses` or `sse`. Default: none.
    pub(super) stream: Option<Text>,
    /// `decoded` or `bytes`. Default: `decoded`.
    pub(super) answer: Option<Text>,
    /// The name of one of `[pages]`. Default: none.
    pub(super) page: Option<Text>,
    /// `safe` or `stop`. Default: `safe` for idempotent verbs, else that of the file.
    pub(super) repeat: Option<Text>,
    /// Whether a failed try may be followed by another. Default: by the method.
    pub(super) idempotent: Option<bool>,
    /// What it does, in a line. Default: nothing.
    pub(super) doc: Option<String>,
}
