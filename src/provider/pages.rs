//! Lists in pages: where an answer has its items, and how the next page is asked for, as the descriptor says. Nothing is believed that would lead
//! elsewhere: the URL of a next page is looked at like any other that a script names.

use reqwest::header::{HeaderMap, LINK};
use serde_json::Value;
use url::Url;

use super::descriptor::error::at;
use super::descriptor::{Next, Page as Described};
use crate::script::call::{CalledBody, Page, PageAt, PagePlace};

/// The page that an answer is. `before`: how it was asked for; `size`: how many items were asked for, where that is known.
pub(super) fn found(
    described: &Described,
    body: &CalledBody,
    headers: &HeaderMap,
    before: Option<&PageAt>,
    size: Option<u64>,
) -> Option<Page> {
    let CalledBody::Json(json) = body else { return None };
    let value: Value = serde_json::from_str(&json.0).ok()?;
    let mut lists = described.items.iter();
    let (pointer, items) =
        lists.find_map(|pointer| Some((pointer, at(&value, pointer)?.as_array()?)))?;
    let had = before.map_or(0, |before| before.had).saturating_add(items.len() as u64);
    let is_full = size.is_none_or(|size| items.len() as u64 >= size);
    let place = match items.last() {
        Some(last) => place(&described.next, &value, headers, last, (had, is_full), before),
        // Some give a cursor after the last page, too.
        None => None,
    };
    let items = pointer.names().iter().cloned().collect();
    Some(Page { items, next: place.map(|place| PageAt { place, had }) })
}

fn place(
    next: &Next,
    value: &Value,
    headers: &HeaderMap,
    last: &Value,
    (had, is_full): (u64, bool),
    before: Option<&PageAt>,
) -> Option<PagePlace> {
    let says_more = |more: &Option<_>| match more {
        Some(pointer) => at(value, pointer).and_then(Value::as_bool),
        None => None,
    };
    let number = |pointer: &Option<_>| at(value, pointer.as_ref()?).and_then(Value::as_u64);
    match next {
        Next::Whole => None,
        Next::LastId { param, id, more } => {
            let id = at(last, id).and_then(text)?;
            says_more(more).unwrap_or(true).then(|| PagePlace::Query(param.clone(), id))
        }
        Next::Offset { param, total } => {
            let goes_on = number(total).map_or(is_full, |total| had < total);
            goes_on.then(|| PagePlace::Query(param.clone(), had.to_string().into()))
        }
        Next::Cursor { param, cursor, more } => {
            let cursor = at(value, cursor).and_then(text)?;
            says_more(more).unwrap_or(true).then(|| PagePlace::Query(param.clone(), cursor))
        }
        Next::Url(pointer) => at(value, pointer).and_then(text).map(PagePlace::Url),
        Next::Link => headers
            .get_all(LINK)
            .iter()
            .filter_map(|header| next_link(header.to_str().ok()?))
            .next()
            .map(|url| PagePlace::Url(url.into())),
        Next::Number { param, first, pages } => {
            let this = match before.map(|before| &before.place) {
                Some(PagePlace::Query(_, number)) => number.parse().ok()?,
                _ => *first,
            };
            // Numbered from `first`, so that many there are.
            let next = this.checked_add(1)?;
            let goes_on =
                number(pages).map_or(is_full, |pages| next < pages.saturating_add(*first));
            goes_on.then(|| PagePlace::Query(param.clone(), next.to_string().into()))
        }
    }
}

/// Text that is not empty, and numbers as their digits.
fn text(value: &Value) -> Option<Box<str>> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.as_str().into()),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

/// The target of `rel="next"` in a header `Link` (RFC 8288).
fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some(start) = rest.find('<') {
        let end = rest[start..].find('>')? + start;
        let target = &rest[start + 1..end];
        let after = &rest[end + 1..];
        let parameters = &after[..after.find('<').unwrap_or(after.len())];
        let is_next = parameters.split(';').any(|parameter| {
            let relation = parameter.trim().trim_end_matches(',').trim().strip_prefix("rel=");
            let relation = relation.map(|relation| relation.trim_matches('"'));
            relation.is_some_and(|words| words.split(' ').any(|word| word == "next"))
        });
        if is_next {
            return Some(target);
        }
        rest = after;
    }
    None
}

/// The same query with one field set to another value; where nothing is said of the size of a page, with that too.
pub(super) fn turn(url: &mut Url, param: &str, value: &str, size: Option<(&str, u64)>) {
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| name != param)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in &kept {
        query.append_pair(name, value);
    }
    query.append_pair(param, value);
    if let Some((name, most)) = size
        && kept.iter().all(|(known, _)| known != name)
    {
        query.append_pair(name, &most.to_string());
    }
    url.set_query(Some(&query.finish()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProviderKind;
    use crate::provider::descriptor::Descriptor;
    use crate::store::Json;

    fn of(
        kind: ProviderKind,
        operation: &str,
        body: &str,
        before: Option<&PageAt>,
    ) -> Option<Page> {
        let descriptor = Descriptor::built_in(kind);
        let described = descriptor.operation(operation).unwrap().page.as_ref().unwrap();
        let body = CalledBody::Json(Json(body.into()));
        found(described, &body, &HeaderMap::new(), before, None)
    }

    fn next(page: Option<Page>) -> Option<(String, u64)> {
        let PageAt { place, had } = page?.next?;
        let shown = match place {
            PagePlace::Query(name, value) => format!("{name}={value}"),
            PagePlace::Url(url) => url.into(),
        };
        Some((shown, had))
    }

    #[test]
    fn v27_each_provider_s_lists_go_on_as_it_says() {
        use ProviderKind::{Clerk, OpenAi, Stripe};
        let some = |text: &str, had| Some((text.to_owned(), had));
        let body = r#"{"data":[{"id":"cus_1"},{"id":"cus_2"}],"has_more":true}"#;
        assert_eq!(next(of(Stripe, "customers.list", body, None)), some("starting_after=cus_2", 2));
        let body = r#"{"data":[{"id":"cus_3"}],"has_more":false}"#;
        assert_eq!(next(of(Stripe, "customers.list", body, None)), None);
        // An empty page ends a list, whatever it says.
        let body = r#"{"data":[],"has_more":true}"#;
        assert_eq!(next(of(Stripe, "customers.list", body, None)), None);
        let body = r#"{"data":[{"id":"a"}],"has_more":true,"last_id":"a"}"#;
        assert_eq!(next(of(OpenAi, "files.list", body, None)), some("after=a", 1));
        let before = PageAt { place: PagePlace::Query("offset".into(), "2".into()), had: 2 };
        let body = r#"{"data":[{"id":"u"}],"total_count":4}"#;
        let page = of(Clerk, "organizations.list", body, Some(&before));
        assert_eq!(next(page), some("offset=3", 3));
        let page = of(Clerk, "users.list", r#"[{"id":"u"}]"#, None).unwrap();
        assert!(page.items.is_empty());
    }

    #[test]
    fn the_next_page_of_a_link_header_is_found() {
        for (header, expected) in [
            (
                r#"<https://a.com/x?page=2>; rel="next", <https://a.com/x?page=9>; rel="last""#,
                Some("https://a.com/x?page=2"),
            ),
            (
                r#"<https://a.com/1>; rel="prev", <https://a.com/3>; title="x"; rel="next""#,
                Some("https://a.com/3"),
            ),
            ("</x?page=2>; rel=next", Some("/x?page=2")),
            (r#"<https://a.com/1>; rel="prev""#, None),
            ("<https://a.com", None),
            ("", None),
        ] {
            assert_eq!(next_link(header), expected, "{header}");
        }
    }
}
