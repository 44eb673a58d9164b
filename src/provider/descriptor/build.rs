//! From as written to as meant: all that one descriptor can tell. What it leaves open is as in the descriptor below it. Every problem is
//! told, each with its place.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use serde_json::Value as Json;
use toml::{Spanned, Value};

use super::error::CODES;
use super::file::{self, File, Text, Texts};
use super::price::Price;
use super::read::Report;
use super::{
    Answer, Arrays, Descriptor, Encoding, Errors, Form, Idempotency, Next, Nulls, Operation, Page,
    Params, Path, Prices, Repeat, Size, Stream, Style, Usage, names, offers,
};
use crate::config::ErrorWhen;
use crate::frame::nearest;
use crate::header;
use crate::json::Pointer;
use crate::provider::limit_headers::{Bucket, LimitHeaders, Reason};
use crate::provider::retry_after::Reset;
use crate::script::call::Verb;
use crate::units::{Rate, parse_duration, parse_rate, print_duration};

const ENCODINGS: [(&str, Encoding); 3] =
    [("json", Encoding::Json), ("form", Encoding::Form), ("multipart", Encoding::Multipart)];
const REPEATS: [(&str, Repeat); 2] = [("safe", Repeat::Safe), ("stop", Repeat::Stop)];
const ARRAYS: [(&str, Arrays); 3] =
    [("indexed", Arrays::Indexed), ("brackets", Arrays::Brackets), ("repeated", Arrays::Repeated)];
const NULLS: [(&str, Nulls); 2] = [("empty", Nulls::Empty), ("omitted", Nulls::Omitted)];
const PARAMS: [(&str, Params); 3] =
    [("body", Params::Body), ("query", Params::Query), ("none", Params::None)];
const STREAMS: [(&str, Stream); 3] = [
    ("openai-chat", Stream::OpenaiChat),
    ("openai-responses", Stream::OpenaiResponses),
    ("sse", Stream::Sse),
];
const ANSWERS: [(&str, Answer); 2] = [("decoded", Answer::Decoded), ("bytes", Answer::Bytes)];
/// Durations have a unit, so nothing else can be meant.
const DIALECTS: [(&str, Reset); 3] =
    [("durations", Reset::Either), ("seconds", Reset::After), ("epoch", Reset::Epoch)];
const VERBS: [(&str, Verb); 6] = [
    ("GET", Verb::Get),
    ("HEAD", Verb::Head),
    ("POST", Verb::Post),
    ("PUT", Verb::Put),
    ("PATCH", Verb::Patch),
    ("DELETE", Verb::Delete),
];

/// A key is remembered for seconds at least, and nobody keeps one for longer than a year.
const KEY_TTL: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);
/// The dearest model costs a tenth of it; beyond it somebody has written cents.
const DOLLARS_MAX: f64 = 10_000.0;

/// As meant; what is wrong stands in the report.
pub(super) fn build(file: File, base: Option<&Descriptor>, report: &mut Report) -> Descriptor {
    let mut build = Build { report };
    let form = build.form(&file.form, base);
    let encoding = build.choice(file.encoding.as_ref(), &ENCODINGS).unwrap_or(Encoding::Json);
    let usual = build.choice(file.repeat.as_ref(), &REPEATS);
    let repeat = usual.or(base.map(|base| base.repeat)).unwrap_or(Repeat::Safe);
    let errors = build.errors(&file, base);
    let headers = build.headers(file.headers);
    let pages = build.pages(&file.pages);
    let operations = build.operations(file.operations, (encoding, repeat), &pages);
    Descriptor {
        base_url: build.base_url(file.base_url.as_ref()),
        style: build.style(file.auth.as_ref()).unwrap_or(Style::None),
        headers,
        form,
        errors,
        limits: build.limits(file.rate_headers.as_ref()),
        idempotency: build.idempotency(file.idempotency.as_ref()),
        repeat,
        rate_limit: build.rate_limit(file.rate_limit.unwrap_or_default()),
        usage: file.usage.map(|usage| build.usage(&usage)),
        prices: file.prices.map(|prices| build.prices(&prices)).unwrap_or_default(),
        offers: offers(&operations),
        operations,
    }
}

struct Build<'a> {
    report: &'a mut Report,
}

impl Build<'_> {
    fn reject(&mut self, span: Range<usize>, must: &str, label: impl Into<String>) {
        self.report.problem("E0102", format!("this must be {must}"), span, label);
    }

    /// One of a few words.
    fn choice<T: Copy>(&mut self, written: Option<&Text>, known: &[(&str, T)]) -> Option<T> {
        let written = written?;
        let word = written.get_ref().as_str();
        if let Some((_, meant)) = known.iter().find(|(known, _)| *known == word) {
            return Some(*meant);
        }
        let names: Vec<&str> = known.iter().map(|(known, _)| *known).collect();
        let label = nearest(word, names.iter().copied())
            .map_or_else(String::new, |near| format!("did you mean `{near}`?"));
        let shown: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        self.reject(written.span(), &format!("one of {}", shown.join(", ")), label);
        None
    }

    fn required<'t, T>(
        &mut self,
        written: Option<&'t T>,
        key: &str,
        span: &Range<usize>,
    ) -> Option<&'t T> {
        if written.is_none() && !self.report.is_torn(span) {
            self.report.problem("E0102", format!("`{key}` is missing"), span.clone(), "");
        }
        written
    }

    fn pointer(&mut self, written: Option<&Text>) -> Option<Pointer> {
        let written = written?;
        match written.get_ref().parse::<Pointer>() {
            Ok(pointer) => Some(pointer),
            Err(error) => {
                self.reject(written.span(), "a JSON pointer", error.to_string());
                None
            }
        }
    }

    fn pointers(&mut self, written: &Texts) -> Box<[Pointer]> {
        written.iter().filter_map(|pointer| self.pointer(Some(pointer))).collect()
    }

    /// The name of a header, in lower case.
    fn header(&mut self, written: Option<&Text>) -> Option<Box<str>> {
        let written = written?;
        if !header::is_name(written.get_ref()) {
            self.reject(written.span(), "the name of a header", "");
            return None;
        }
        Some(written.get_ref().to_ascii_lowercase().into())
    }

    fn headers(&mut self, written: BTreeMap<Text, Text>) -> Box<[(Box<str>, Box<str>)]> {
        // What the caller decides, or what would change where a call goes.
        const OURS: [&str; 5] =
            ["authorization", "host", "content-length", "content-type", "transfer-encoding"];
        let mut headers = Vec::new();
        for (name, value) in written {
            let Some(name_meant) = self.header(Some(&name)) else { continue };
            if OURS.contains(&&*name_meant) {
                self.reject(name.span(), "a header that is not set by Rhaiway itself", "");
            } else if !value.get_ref().bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                self.reject(value.span(), "a value of printable ASCII", "");
            } else {
                headers.push((name_meant, value.into_inner().into()));
            }
        }
        headers.into()
    }

    fn base_url(&mut self, written: Option<&Text>) -> Option<Box<str>> {
        let written = written?;
        let text = written.get_ref();
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let is_fine = host.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
            && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@\\\"<>".contains(&byte));
        if !is_fine {
            let must =
                "a URL without user, query and fragment, such as `\"https://api.example.com/v1\"`";
            self.reject(written.span(), must, "");
            return None;
        }
        Some(text.trim_end_matches('/').into())
    }

    fn style(&mut self, written: Option<&Spanned<Value>>) -> Option<Style> {
        let written = written?;
        let only = |key: &str| match written.get_ref() {
            Value::Table(table) if table.len() == 1 => table.get(key)?.as_str().map(str::to_owned),
            _ => None,
        };
        let style = match written.get_ref().as_str() {
            Some("bearer") => Some(Style::Bearer),
            Some("basic") => Some(Style::Basic),
            Some("none") => Some(Style::None),
            Some(_) => None,
            None => {
                let header = only("header").map(|name| Spanned::new(written.span(), name));
                let header = header.and_then(|name| self.header(Some(&name)));
                let query = only("query").filter(|name| !name.is_empty());
                header.map(Style::Header).or(query.map(|name| Style::Query(name.into())))
            }
        };
        if style.is_none() {
            let must = "`\"bearer\"`, `\"basic\"`, `\"none\"`, `{ header = \"…\" }` or `{ query = \"…\" }`";
            self.reject(
                written.span(),
                must,
                "secrets stand in config.toml's environment, never here",
            );
        }
        style
    }

    fn form(&mut self, written: &file::Form, base: Option<&Descriptor>) -> Form {
        let usual = base.map(|base| base.form);
        let usual = usual.unwrap_or(Form { arrays: Arrays::Repeated, nulls: Nulls::Omitted });
        Form {
            arrays: self.choice(written.arrays.as_ref(), &ARRAYS).unwrap_or(usual.arrays),
            nulls: self.choice(written.nulls.as_ref(), &NULLS).unwrap_or(usual.nulls),
        }
    }

    fn errors(&mut self, file: &File, base: Option<&Descriptor>) -> Errors {
        let written = &file.errors;
        let usual = base.map(|base| &base.errors);
        let mut places = |own: &Option<Texts>, usual: Option<&[Pointer]>| match own {
            Some(own) => self.pointers(own),
            None => usual.map(Box::from).unwrap_or_default(),
        };
        let message = places(&written.message, usual.map(|usual| &*usual.message));
        let code = places(&written.code, usual.map(|usual| &*usual.code));
        let kind = places(&written.kind, usual.map(|usual| &*usual.kind));
        let mut status = BTreeMap::new();
        for (number, code) in &written.status {
            let code = self.choice(Some(code), &CODES);
            match number.get_ref().parse::<u16>().ok().filter(|status| (400..600).contains(status))
            {
                Some(number) => status.extend(code.map(|code| (number, code))),
                None => self.reject(number.span(), "a status from 400 to 599", ""),
            }
        }
        let mut codes = usual.map(|usual| usual.codes.clone()).unwrap_or_default();
        for (name, code) in &written.codes {
            let code = self.choice(Some(code), &CODES);
            codes.extend(code.map(|code| (name.get_ref().as_str().into(), code)));
        }
        let when = file.error_when.as_ref().and_then(|when| self.when(when));
        Errors { message, code, kind, status, codes, when }
    }

    fn when(&mut self, written: &Spanned<file::ErrorWhen>) -> Option<ErrorWhen> {
        let (span, when) = (written.span(), written.get_ref());
        let pointer = self.required(when.pointer.as_ref(), "pointer", &span);
        let pointer = self.pointer(pointer);
        let equals = self.required(when.equals.as_ref(), "equals", &span).and_then(|equals| {
            let value = match equals.get_ref() {
                Value::String(text) => Json::from(text.as_str()),
                Value::Integer(number) => Json::from(*number),
                Value::Boolean(flag) => Json::from(*flag),
                _ => {
                    self.reject(equals.span(), "text, a whole number, true or false", "");
                    return None;
                }
            };
            Some(value)
        });
        let code = self.pointer(when.code.as_ref());
        let message = self.pointer(when.message.as_ref());
        Some(ErrorWhen { pointer: pointer?, equals: equals?, code, message })
    }

    /// The IETF's own headers are looked at in any case.
    fn limits(&mut self, written: Option<&file::RateHeaders>) -> LimitHeaders {
        let Some(written) = written else {
            return LimitHeaders { ietf: true, ..LimitHeaders::default() };
        };
        let dialect = self.required(written.dialect.as_ref(), "dialect", &(0..0));
        let reset_is = self.choice(dialect, &DIALECTS).unwrap_or_default();
        let mut buckets = Vec::new();
        for (name, bucket) in &written.buckets {
            let (span, bucket) = (bucket.span(), bucket.get_ref());
            let mut header = |written: Option<&Text>, key| {
                let written = self.required(written, key, &span);
                self.header(written)
            };
            let limit = header(bucket.limit.as_ref(), "limit");
            let remaining = header(bucket.remaining.as_ref(), "remaining");
            let reset = header(bucket.reset.as_ref(), "reset");
            let name_from = self.header(bucket.name_from.as_ref());
            let name = name.as_str().into();
            buckets.push(Bucket { name, name_from, limit, remaining, reset, reset_is });
        }
        let reason = written.reason.as_ref().and_then(|reason| {
            let (span, reason) = (reason.span(), reason.get_ref());
            let header = self.required(reason.header.as_ref(), "header", &span);
            let operation = reason.operation.iter().map(|word| word.get_ref().as_str().into());
            Some(Reason { header: self.header(header)?, operation: operation.collect() })
        });
        LimitHeaders { buckets, ietf: true, reason }
    }

    fn idempotency(&mut self, written: Option<&Spanned<file::Idempotency>>) -> Option<Idempotency> {
        let written = written?;
        let (span, idempotency) = (written.span(), written.get_ref());
        let header = self.required(idempotency.header.as_ref(), "header", &span);
        let header = self.header(header);
        let key_ttl = self.required(idempotency.key_ttl.as_ref(), "key_ttl", &span);
        let key_ttl = key_ttl.and_then(|ttl| {
            let (least, most) = (print_duration(*KEY_TTL.start()), print_duration(*KEY_TTL.end()));
            let label = match parse_duration(ttl.get_ref()) {
                Ok(duration) if KEY_TTL.contains(&duration) => return Some(duration),
                Ok(_) => String::new(),
                Err(error) => error.to_string(),
            };
            self.reject(ttl.span(), &format!("a duration from {least} to {most}"), label);
            None
        });
        let verbs = match &idempotency.methods {
            Some(methods) => {
                methods.iter().filter_map(|method| self.choice(Some(method), &VERBS)).collect()
            }
            None => Box::from([Verb::Post]),
        };
        Some(Idempotency { header: header?, key_ttl: key_ttl?, verbs })
    }

    fn rate_limit(&mut self, written: Texts) -> Box<[Rate]> {
        let mut limits = Vec::new();
        for limit in written {
            match parse_rate(limit.get_ref()) {
                Ok(rate) => limits.push(rate),
                Err(error) => {
                    self.reject(limit.span(), "a rate, such as `\"100/s\"`", error.to_string());
                }
            }
        }
        limits.into()
    }

    fn pages(&mut self, written: &BTreeMap<String, Spanned<file::Page>>) -> BTreeMap<String, Page> {
        let mut pages = BTreeMap::new();
        for (name, page) in written {
            pages.extend(self.page(page).map(|page| (name.clone(), page)));
        }
        pages
    }

    fn page(&mut self, written: &Spanned<file::Page>) -> Option<Page> {
        let (span, page) = (written.span(), written.get_ref());
        let kind = self.required(page.kind.as_ref(), "kind", &span)?;
        const KINDS: [(&str, &str); 7] = [
            ("whole", "whole"),
            ("last_id", "last_id"),
            ("offset", "offset"),
            ("cursor", "cursor"),
            ("url", "url"),
            ("link", "link"),
            ("number", "number"),
        ];
        let kind = self.choice(Some(kind), &KINDS)?;
        let param = if matches!(kind, "last_id" | "offset" | "cursor" | "number") {
            self.required(page.param.as_ref(), "param", &span)?.get_ref().as_str()
        } else {
            ""
        };
        let param: Box<str> = param.into();
        let next = match kind {
            "last_id" => {
                let id = Spanned::new(span.clone(), "/id".to_owned());
                let id = self.pointer(Some(page.id.as_ref().unwrap_or(&id)))?;
                Next::LastId { param, id, more: self.pointer(page.more.as_ref()) }
            }
            "offset" => Next::Offset { param, total: self.pointer(page.total.as_ref()) },
            "cursor" => {
                let cursor = self.required(page.cursor.as_ref(), "cursor", &span);
                let cursor = self.pointer(cursor)?;
                Next::Cursor { param, cursor, more: self.pointer(page.more.as_ref()) }
            }
            "url" => {
                let url = self.required(page.url.as_ref(), "url", &span);
                Next::Url(self.pointer(url)?)
            }
            "link" => Next::Link,
            "number" => {
                let first = self.number(page.first.as_ref(), 0..=1).unwrap_or(1);
                Next::Number { param, first, pages: self.pointer(page.pages.as_ref()) }
            }
            _ => Next::Whole,
        };
        let items = match &page.items {
            Some(items) => self.pointers(items),
            None => "".parse::<Pointer>().into_iter().collect(),
        };
        Some(Page { items, size: self.size(page.size.as_ref()), next })
    }

    fn size(&mut self, written: Option<&Spanned<file::Size>>) -> Option<Size> {
        let written = written?;
        let (span, size) = (written.span(), written.get_ref());
        let param = self.required(size.param.as_ref(), "param", &span);
        let max = self.required(size.max.as_ref(), "max", &span);
        let max = self.number(max, 1..=100_000);
        Some(Size { param: param?.get_ref().as_str().into(), max: max? })
    }

    fn number(
        &mut self,
        written: Option<&Spanned<i64>>,
        bounds: RangeInclusive<u64>,
    ) -> Option<u64> {
        let written = written?;
        let number = u64::try_from(*written.get_ref()).ok().filter(|n| bounds.contains(n));
        if number.is_none() {
            let must = format!("a whole number from {} to {}", bounds.start(), bounds.end());
            self.reject(written.span(), &must, "");
        }
        number
    }

    fn usage(&mut self, written: &file::Usage) -> Usage {
        Usage {
            model: self.pointer(written.model.as_ref()),
            input: self.pointers(&written.input),
            output: self.pointers(&written.output),
            cached: self.pointers(&written.cached),
            total: self.pointers(&written.total),
        }
    }

    fn prices(&mut self, written: &file::Prices) -> Prices {
        let as_of = self.required(written.as_of.as_ref(), "as_of", &(0..0));
        let mut models = BTreeMap::new();
        for (name, price) in &written.models {
            let (span, price) = (price.span(), price.get_ref());
            let input = self.required(price.input.as_ref(), "input", &span);
            let output = self.required(price.output.as_ref(), "output", &span);
            let (input, output) = (self.dollars(input), self.dollars(output));
            let cached = self.dollars(price.cached.as_ref()).or(input);
            if let (Some(input), Some(output), Some(cached)) = (input, output, cached) {
                models.insert(name.as_str().into(), Price { input, output, cached });
            }
        }
        Prices { as_of: as_of.map_or("", |day| day.get_ref().as_str()).into(), models }
    }

    /// Millionths of a dollar.
    fn dollars(&mut self, written: Option<&Spanned<f64>>) -> Option<u64> {
        let written = written?;
        let dollars = *written.get_ref();
        if !(0.0..=DOLLARS_MAX).contains(&dollars) {
            self.reject(written.span(), "US dollars a million tokens, 0.0 to 10000.0", "");
            return None;
        }
        format!("{:.0}", dollars * 1e6).parse().ok()
    }

    fn operations(
        &mut self,
        written: BTreeMap<Text, Spanned<file::Operation>>,
        usual: (Encoding, Repeat),
        pages: &BTreeMap<String, Page>,
    ) -> BTreeMap<Box<str>, Operation> {
        let all: Vec<String> = written.keys().map(|name| name.get_ref().clone()).collect();
        let mut operations = BTreeMap::new();
        for (name, operation) in written {
            let below = format!("{}.", name.get_ref());
            if let Err(error) = names::check(name.get_ref()) {
                let title = format!("`{}` cannot be the name of an operation", name.get_ref());
                self.report.problem("E0121", title, name.span(), error.to_string());
            } else if let Some(other) = all.iter().find(|other| other.starts_with(&below)) {
                let title = format!("`{}` is an operation, and a resource too", name.get_ref());
                self.report.problem("E0121", title, name.span(), format!("there is `{other}`"));
            } else if let Some(operation) = self.operation(&operation, usual, pages) {
                operations.insert(name.into_inner().into(), operation);
            }
        }
        operations
    }

    fn operation(
        &mut self,
        written: &Spanned<file::Operation>,
        (encoding, repeat): (Encoding, Repeat),
        pages: &BTreeMap<String, Page>,
    ) -> Option<Operation> {
        let (span, operation) = (written.span(), written.get_ref());
        let verb = self.required(operation.method.as_ref(), "method", &span);
        let verb = self.choice(verb, &VERBS);
        let path = self.required(operation.path.as_ref(), "path", &span);
        let path = path.and_then(|path| match Path::parse(path.get_ref()) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.reject(path.span(), "a path, such as `\"/users/{id}\"`", error.to_string());
                None
            }
        });
        let page = operation.page.as_ref().and_then(|page| {
            let known = pages.iter().map(|(name, page)| (name.as_str(), page));
            self.choice(Some(page), &known.collect::<Vec<_>>()).cloned()
        });
        let params = self.choice(operation.params.as_ref(), &PARAMS);
        let own_encoding = self.choice(operation.encoding.as_ref(), &ENCODINGS);
        let own_repeat = self.choice(operation.repeat.as_ref(), &REPEATS);
        let stream = self.choice(operation.stream.as_ref(), &STREAMS);
        let answer = self.choice(operation.answer.as_ref(), &ANSWERS);
        let verb = verb?;
        if let Some(page) = operation.page.as_ref().filter(|_| verb != Verb::Get) {
            self.reject(page.span(), "left out where `method` is not `GET`", "");
        }
        let has_body = matches!(verb, Verb::Post | Verb::Put | Verb::Patch);
        let idempotent = operation.idempotent.unwrap_or(verb.is_idempotent());
        Some(Operation {
            verb,
            path: path?,
            params: params.unwrap_or(if has_body { Params::Body } else { Params::Query }),
            encoding: own_encoding.unwrap_or(encoding),
            stream,
            answer: answer.unwrap_or(Answer::Decoded),
            page,
            repeat: own_repeat.unwrap_or(if idempotent { Repeat::Safe } else { repeat }),
            idempotent,
        })
    }
}
