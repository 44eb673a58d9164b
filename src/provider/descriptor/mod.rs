//! What a provider's API looks like, as data: where it is, how it is signed in to, its operations, errors, lists and limits. In reading
//! order: `file` (as written), `read` (from a text), `build` (as meant), then what interprets it: `path` and `request` (what to send),
//! `error` (what an answer means), `price` (what it cost). Nothing here does I/O, and nothing asks which provider it is.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::limit_headers::LimitHeaders;
use crate::config::ProviderKind;
use crate::frame::Frame;
use crate::json::Pointer;
use crate::script::call::Verb;
use crate::script::providers::{Takes, Tree};
use crate::units::Rate;

mod build;
pub(crate) mod error;
mod file;
mod names;
mod pairs;
pub(crate) mod path;
pub(crate) mod price;
mod read;
pub(crate) mod request;
#[cfg(test)]
mod tests;

pub(crate) use self::error::Errors;
pub(crate) use self::path::Path;
pub(crate) use self::price::Prices;

/// The whole of one.
#[derive(Clone, Debug)]
pub(crate) struct Descriptor {
    /// What paths are added to, without a slash at its end; `None`: config must say it.
    pub(crate) base_url: Option<Box<str>>,
    /// How a call is signed in, where config says nothing else.
    pub(crate) style: Style,
    /// Sent with every call, names in lower case.
    pub(crate) headers: Box<[(Box<str>, Box<str>)]>,
    /// How forms and queries are written.
    pub(crate) form: Form,
    /// What errors look like.
    pub(crate) errors: Errors,
    /// Where answers tell what is left of the limits.
    pub(crate) limits: LimitHeaders,
    /// How the provider knows a call that comes again; `None`: it does not.
    pub(crate) idempotency: Option<Idempotency>,
    /// What to do after an unknown outcome of a call that no operation describes.
    pub(crate) repeat: Repeat,
    /// The published limits.
    pub(crate) rate_limit: Box<[Rate]>,
    /// Where answers tell what they used.
    pub(crate) usage: Option<Usage>,
    /// What that costs.
    pub(crate) prices: Prices,
    /// By their dotted names.
    pub(crate) operations: BTreeMap<Box<str>, Operation>,
    /// The same, as scripts may name them.
    pub(crate) offers: Arc<Tree>,
}

/// How a call is signed in. The secret itself comes from config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `Authorization: Bearer …`.
    Bearer,
    /// `Authorization: Basic …`.
    Basic,
    /// The secret is the value of this header.
    Header(Box<str>),
    /// The secret is the value of this field of the query.
    Query(Box<str>),
    /// Not at all.
    None,
}

/// How params become a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As they are.
    Json,
    /// `a=1&b[c]=2`.
    Form,
    /// One part for each field, files as they are.
    Multipart,
}

/// How maps and lists are written where there are only names and texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// How a list is written. Maps are `a[b]` everywhere.
    pub(crate) arrays: Arrays,
    /// What becomes of `null`.
    pub(crate) nulls: Nulls,
}

/// How a list is written. Lists of maps and of lists have their places counted in any case: nothing else tells where one ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrays {
    /// `a[0]=x&a[1]=y`
    Indexed,
    /// `a[]=x&a[]=y`
    Brackets,
    /// `a=x&a=y`
    Repeated,
}

/// What becomes of `null`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nulls {
    /// `a=`, which takes a value away.
    Empty,
    /// Nothing, as if it were absent.
    Omitted,
}

/// One thing that can be asked of the provider.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// With which verb.
    pub(crate) verb: Verb,
    /// Where, below the base URL.
    pub(crate) path: Path,
    /// Where its params go.
    pub(crate) params: Params,
    /// How they become a body.
    pub(crate) encoding: Encoding,
    /// How its answer can be streamed; `None`: it cannot.
    pub(crate) stream: Option<Stream>,
    /// What its answer is.
    pub(crate) answer: Answer,
    /// How the rest of a list is had.
    pub(crate) page: Option<Page>,
    /// What to do after an unknown outcome, without a usable key.
    pub(crate) repeat: Repeat,
    /// Whether a try that failed may be followed by another, also without a key.
    pub(crate) idempotent: bool,
}

/// Where params go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Params {
    /// Into the body.
    Body,
    /// Behind the `?`.
    Query,
    /// It takes none.
    None,
}

/// The dialect of a stream of server-sent events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Chunks of chat completions, ended by `[DONE]`.
    OpenaiChat,
    /// Typed events of OpenAI's responses.
    OpenaiResponses,
    /// Any, each `data` on its own.
    Sse,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// JSON, text or a form, by its content type.
    Decoded,
    /// Bytes, such as sound or a file.
    Bytes,
}

/// What to do after an outcome that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Make the call again: at least once.
    Safe,
    /// Make a dead letter that says so: at most once.
    Stop,
}

/// How a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Where an answer has its items; the first that is a list counts.
    pub(crate) items: Box<[Pointer]>,
    /// How the size of a page is asked for.
    pub(crate) size: Option<Size>,
    /// How the next one is.
    pub(crate) next: Next,
}

/// The size of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// The field of the query.
    pub(crate) param: Box<str>,
    /// The most that it may say.
    pub(crate) max: u64,
}

/// How the next page of a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// There is none: the first answer is all.
    Whole,
    /// With the id of the last item.
    LastId {
        /// The field of the query.
        param: Box<str>,
        /// Where an item has its id.
        id: Pointer,
        /// Whether there are more; `None`: until a page is empty.
        more: Option<Pointer>,
    },
    /// With the number of items had.
    Offset {
        /// The field of the query.
        param: Box<str>,
        /// How many there are; where an answer does not say it, a page that is not full is the last.
        total: Option<Pointer>,
    },
    /// With what the answer gives for it.
    Cursor {
        /// The field of the query.
        param: Box<str>,
        /// Where it stands in the answer; absent, null or empty at the end.
        cursor: Pointer,
        /// Whether there are more; `None`: while there is a cursor.
        more: Option<Pointer>,
    },
    /// By the URL that the answer gives. It must be below the base URL.
    Url(Pointer),
    /// By the URL in the header `Link` with `rel="next"` (RFC 8288).
    Link,
    /// By its number.
    Number {
        /// The field of the query.
        param: Box<str>,
        /// The number of the first.
        first: u64,
        /// How many there are; `None`: until a page is not full.
        pages: Option<Pointer>,
    },
}

/// How a provider knows a call that comes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Idempotency {
    /// The header of the key, in lower case.
    pub(crate) header: Box<str>,
    /// How long it remembers one.
    pub(crate) key_ttl: Duration,
    /// The verbs for which it looks at it.
    pub(crate) verbs: Box<[Verb]>,
}

/// Where an answer tells what it used; of several places the first that has a number counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Which model answered.
    pub(crate) model: Option<Pointer>,
    /// Tokens read, those from a cache included.
    pub(crate) input: Box<[Pointer]>,
    /// Tokens written.
    pub(crate) output: Box<[Pointer]>,
    /// Tokens read from a cache.
    pub(crate) cached: Box<[Pointer]>,
    /// All of them.
    pub(crate) total: Box<[Pointer]>,
}

type BuiltIn = (ProviderKind, Arc<Descriptor>);

/// Those in the binary.
const BUILT_IN: [(ProviderKind, &str, &str); 4] = [
    (ProviderKind::Clerk, "clerk", include_str!("../descriptors/clerk.toml")),
    (ProviderKind::Stripe, "stripe", include_str!("../descriptors/stripe.toml")),
    (ProviderKind::OpenAi, "openai", include_str!("../descriptors/openai.toml")),
    (ProviderKind::Http, "http", include_str!("../descriptors/http.toml")),
];

static DESCRIPTORS: LazyLock<Box<[BuiltIn]>> = LazyLock::new(|| {
    let read = |(kind, name, text): &(ProviderKind, &str, &str)| {
        let read = read::read(&format!("{name}.toml"), text, None);
        let read = read.expect("they are part of the program, and a test reads them");
        (*kind, Arc::new(read))
    };
    BUILT_IN.iter().map(read).collect()
});

impl Descriptor {
    /// The one in the binary.
    pub(crate) fn built_in(kind: ProviderKind) -> Arc<Self> {
        let found = DESCRIPTORS.iter().find(|(known, _)| *known == kind);
        Arc::clone(&found.expect("every kind has one").1)
    }

    /// One of a team's own: what it leaves open is as in `http.toml`. Or everything that is wrong with it.
    pub(crate) fn read(path: &str, text: &str) -> Result<Self, Vec<Frame>> {
        read::read(path, text, Some(&Self::built_in(ProviderKind::Http)))
    }

    /// The operation with this dotted name.
    pub(crate) fn operation(&self, name: &str) -> Option<&Operation> {
        self.operations.get(name)
    }
}

/// What scripts may call by name.
fn offers(operations: &BTreeMap<Box<str>, Operation>) -> Arc<Tree> {
    Arc::new(Tree::of(operations.iter().map(|(name, operation)| (&**name, operation.takes()))))
}

impl Operation {
    fn takes(&self) -> Takes {
        Takes {
            path: self.path.parameters().map(Into::into).collect(),
            params: self.params != Params::None,
            streams: self.stream.is_some(),
            files: self.params == Params::Body && self.encoding == Encoding::Multipart,
            is_list: self.page.is_some(),
        }
    }
}
