//! A call that is ready to be sent any number of times: everything that does not depend on when it is sent. From it follow the digest by which a rerun
//! knows it again, whether it may be made twice, and what its answer has to be.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use ring::digest::{Context, SHA256};
use url::Url;

use super::Provider;
use super::answer::{self, Expects};
use super::credentials::Applied;
use super::descriptor::Repeat;
use super::error::{Trouble, What};
use super::exchange::Incoming;
use super::pages;
use super::request::{self, Built, Content, Given, Outgoing};
use crate::multipart;
use crate::script::call::{Called, Page, ProviderCall, Target, Verb};

/// One call, taken apart and put together.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(super) provider: Arc<Provider>,
    /// `checkout.sessions.create`, or `POST /path` without its query.
    pub(crate) operation: Box<str>,
    pub(super) verb: Verb,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Content,
    /// Of all that it says; credentials and keys are not part of it.
    pub(crate) digest: [u8; 32],
    pub(super) timeout: Option<Duration>,
    pub(super) expects: Expects,
    is_idempotent: bool,
    repeat: Repeat,
    /// The operation whose answer is a page of a list.
    paged: Option<Arc<str>>,
    /// Whether a wait that is too long may park its job.
    pub(super) may_wait: bool,
    /// The answer is wanted as it comes.
    pub(crate) streams: bool,
    /// The script's own idempotency key.
    pub(crate) own_key: Option<Box<str>>,
}

impl Prepared {
    /// As the script asks for it. A file that is part of it is read once, for the digest.
    pub(super) async fn of(provider: &Arc<Provider>, call: &ProviderCall) -> Result<Self, Trouble> {
        let missing = provider.missing();
        if !missing.is_empty() {
            let message = format!("it is not configured: {} is not set", missing.join(", "));
            return Err(Trouble::new(What::NotConfigured, message));
        }
        let Some(base_url) = &provider.base_url else {
            return Err(Trouble::new(What::NotConfigured, "it has no `base_url`"));
        };
        let options = &call.options;
        let mut paged = None;
        let of = match &call.target {
            Target::Path { method, path, whole } => {
                request::of_path(provider, base_url, *method, path, *whole, options)?
            }
            Target::Operation { name, path, params, files } => {
                let Some(operation) = provider.descriptor.operation(name) else {
                    let message = format!("there is no operation `{name}`");
                    return Err(Trouble::new(What::BadCall, message));
                };
                let page = call.page.as_ref();
                let given = Given { path, params: params.as_ref(), files, options, page };
                paged = operation.page.is_some().then(|| Arc::clone(name));
                request::of_operation(provider, base_url, operation, &given)?
            }
        };
        let Built { verb, url, mut headers, body, expects, is_idempotent, repeat } = of;
        let digest = digest(verb, &url, &headers, &body).await.map_err(|error| {
            Trouble::new(What::BadCall, format!("a file of it cannot be read: {error}"))
        })?;
        let body = match body {
            Content::Parts(parts) => {
                // It follows from the content, so that a rerun sends the same bytes, and so that nothing in them can be it.
                let boundary = format!("rhaiway-{}", hex(&digest[..16]));
                let form = multipart::encode(&parts, &boundary);
                let kind = HeaderValue::try_from(&form.content_type)
                    .map_err(|_| Trouble::new(What::BadCall, "this form has no content type"))?;
                headers.insert(CONTENT_TYPE, kind);
                Content::Form(Arc::new(form))
            }
            other => other,
        };
        Ok(Self {
            provider: Arc::clone(provider),
            operation: operation(call).into(),
            verb,
            url,
            headers,
            body,
            digest,
            timeout: options.timeout,
            expects,
            is_idempotent,
            repeat,
            paged,
            may_wait: options.wait,
            streams: options.stream,
            own_key: options.idempotency_key.clone(),
        })
    }

    /// Whom it calls, as config names it.
    pub(crate) fn provider(&self) -> &Arc<str> {
        &self.provider.name
    }

    /// Whether making it twice may do harm.
    pub(crate) fn is_unsafe(&self) -> bool {
        !self.verb.is_safe()
    }

    /// Whether a try may be made again after one whose outcome is not known.
    pub(super) fn is_repeatable(&self, key: Option<&str>) -> bool {
        self.is_idempotent || key.is_some() && self.key_header().is_some()
    }

    /// As it goes out.
    pub(super) fn outgoing(
        &self,
        key: Option<&str>,
        applied: &Applied,
    ) -> Result<Outgoing, Trouble> {
        let mut headers = self.headers.clone();
        let mut url = self.url.clone();
        if let Some((name, value)) = &applied.header {
            headers.insert(name.clone(), value.clone());
        }
        if let Some((name, value)) = &applied.query {
            pages::set(&mut url, name, value.expose());
        }
        if let (Some(name), Some(key)) = (self.key_header(), key) {
            let value = HeaderValue::try_from(key).map_err(|_| {
                Trouble::new(What::BadCall, "this idempotency key cannot stand in a header")
            })?;
            headers.insert(name, value);
        }
        let method = Method::from_bytes(self.verb.word().as_bytes())
            .map_err(|_| Trouble::new(What::BadCall, "this verb cannot be sent"))?;
        Ok(Outgoing { method, url, headers, body: self.body.clone(), whole: self.expects.whole })
    }

    /// What an answer comes to.
    pub(super) fn judge(&self, incoming: &Incoming) -> Result<Called, Trouble> {
        let mut called = answer::judge(incoming, &self.expects)?;
        called.page = self.page_of(incoming, &called).map(Box::new);
        Ok(called)
    }

    fn page_of(&self, incoming: &Incoming, called: &Called) -> Option<Page> {
        let operation = self.provider.descriptor.operation(self.paged.as_ref()?)?;
        pages::found(operation.page.as_ref()?, &called.body, &incoming.headers, &self.url)
    }

    /// How long the provider remembers idempotency keys; `None`: it knows none.
    pub(crate) fn key_ttl(&self) -> Option<Duration> {
        request::idempotency(&self.provider, self.verb).map(|known| known.key_ttl)
    }

    /// What is done where nobody knows whether it was done, and no key protects it.
    pub(crate) fn repeat(&self) -> Repeat {
        self.repeat
    }

    /// The header that carries idempotency keys.
    fn key_header(&self) -> Option<HeaderName> {
        let known = request::idempotency(&self.provider, self.verb)?;
        HeaderName::try_from(&*known.header).ok()
    }
}

/// By which a rerun knows the same call again.
async fn digest(
    verb: Verb,
    url: &Url,
    headers: &HeaderMap,
    body: &Content,
) -> io::Result<[u8; 32]> {
    let mut digest = Context::new(&SHA256);
    let mut part = |bytes: &[u8]| {
        digest.update(&(bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    };
    part(verb.word().as_bytes());
    part(url.as_str().as_bytes());
    for (name, value) in headers {
        part(name.as_str().as_bytes());
        part(value.as_bytes());
    }
    let digest = match body {
        Content::Bytes(bytes) => {
            digest.update(bytes);
            digest
        }
        Content::File(payload) => payload.digest(digest).await?,
        Content::Parts(parts) => multipart::encode(parts, "boundary").digest(digest).await?,
        Content::Form(form) => form.digest(digest).await?,
    };
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.finish().as_ref());
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is called, for logs, errors and the journal: no query, which may hold what is nobody's business.
pub(crate) fn operation(call: &ProviderCall) -> String {
    match &call.target {
        Target::Operation { name, .. } => name.to_string(),
        Target::Path { method, path, .. } => {
            let path = path.split('?').next().unwrap_or_default();
            format!("{} {path}", method.word())
        }
    }
}
