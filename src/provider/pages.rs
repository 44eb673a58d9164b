//! Lists in pages: where an answer has its items, and how the next page is asked for, as the descriptor says. Nothing is believed that would lead
//! elsewhere: the URL of a next page is looked at like any other that a script names.

use reqwest::header::{HeaderMap, LINK};
use serde_json::Value;
use url::Url;

use super::descriptor::error::at;
use super::descriptor::{Next, Page as Described};
use crate::json::Pointer;
use crate::script::call::{CalledBody, Page, PagePlace};

/// The page that an answer is. `url` is what was asked for it; where the answer has no list, it is none.
pub(super) fn found(
    described: &Described,
    body: &CalledBody,
    headers: &HeaderMap,
    url: &Url,
) -> Option<Page> {
    let CalledBody::Json(json) = body else { return None };
    let value: Value = serde_json::from_str(&json.0).ok()?;
    let mut lists = described.items.iter();
    let list = lists.find_map(|pointer| Some((pointer, at(&value, pointer)?.as_array()?)));
    let (pointer, items) = match list {
        Some((pointer, items)) => (pointer, items.as_slice()),
        // Some leave an empty list out.
        None => {
            let is_absent = |pointer: &&Pointer| at(&value, pointer).is_none_or(Value::is_null);
            (described.items.iter().find(is_absent)?, &[][..])
        }
    };
    let asked = described.size.as_ref().and_then(|size| {
        let asked: u64 = field(url, &size.param)?.parse().ok()?;
        Some(asked.min(size.max))
    });
    let answer = Answer { value: &value, headers, url, items, asked };
    let names = pointer.names().iter().cloned().collect();
    Some(Page { items: names, next: answer.next(&described.next) })
}

/// What tells how a list goes on.
struct Answer<'a> {
    value: &'a Value,
    headers: &'a HeaderMap,
    /// What was asked.
    url: &'a Url,
    items: &'a [Value],
    /// How many items were asked for, where that is known.
    asked: Option<u64>,
}

impl Answer<'_> {
    fn next(&self, next: &Next) -> Option<PagePlace> {
        match next {
            Next::Whole => None,
            Next::LastId { param, id, more } => {
                let id = at(self.items.last()?, id).and_then(text)?;
                self.says_more(more.as_ref()).then(|| PagePlace::Query(param.clone(), id))
            }
            Next::Offset { param, total } => {
                // The script may have begun in the middle.
                let before = self.number_asked(param).unwrap_or(0);
                let had = before.checked_add(self.count())?;
                let goes_on =
                    self.number(total.as_ref()).map_or(self.is_full(), |total| had < total);
                (goes_on && !self.items.is_empty())
                    .then(|| PagePlace::Query(param.clone(), had.to_string().into()))
            }
            Next::Cursor { param, cursor, more } => {
                let cursor = at(self.value, cursor).and_then(text)?;
                // A page may be empty before the last one, as where a filter takes all of it. Some repeat the cursor behind the last page.
                let is_new =
                    !self.items.is_empty() || field(self.url, param).as_deref() != Some(&*cursor);
                (is_new && self.says_more(more.as_ref()))
                    .then(|| PagePlace::Query(param.clone(), cursor))
            }
            Next::Url(pointer) => self.at_url(&at(self.value, pointer).and_then(text)?),
            Next::Link => {
                let lines = self.headers.get_all(LINK).iter();
                let mut targets = lines.filter_map(|line| next_link(line.to_str().ok()?));
                self.at_url(targets.next()?)
            }
            Next::Number { param, first, pages } => {
                let next = self.number_asked(param).unwrap_or(*first).checked_add(1)?;
                // Numbered from `first`, so that many there are.
                let goes_on = self
                    .number(pages.as_ref())
                    .map_or(self.is_full(), |pages| next < pages.saturating_add(*first));
                (goes_on && !self.items.is_empty())
                    .then(|| PagePlace::Query(param.clone(), next.to_string().into()))
            }
        }
    }

    /// A URL of the answer, from where the answer came from (RFC 3986, section 5.2).
    fn at_url(&self, text: &str) -> Option<PagePlace> {
        let url = self.url.join(text);
        let is_same = self.items.is_empty() && url.as_ref() == Ok(self.url);
        (!is_same)
            .then(|| PagePlace::Url(url.map_or_else(|_| text.into(), |url| url.as_str().into())))
    }

    fn says_more(&self, more: Option<&Pointer>) -> bool {
        more.is_none_or(|more| at(self.value, more).and_then(Value::as_bool).unwrap_or(true))
    }

    fn number(&self, pointer: Option<&Pointer>) -> Option<u64> {
        at(self.value, pointer?).and_then(Value::as_u64)
    }

    fn number_asked(&self, param: &str) -> Option<u64> {
        field(self.url, param)?.parse().ok()
    }

    fn count(&self) -> u64 {
        self.items.len() as u64
    }

    fn is_full(&self) -> bool {
        self.asked.is_none_or(|asked| self.count() >= asked)
    }
}

/// The value of a field of the query.
pub(super) fn field(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
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

/// Gives one field of the query another value. The others stay as they are written, and so does their order.
pub(super) fn set(url: &mut Url, name: &str, value: &str) {
    if field(url, name).is_some() {
        let others = url.query_pairs().filter(|(known, _)| known != name);
        let mut query = form_urlencoded::Serializer::new(String::new());
        let query = query.extend_pairs(others).finish();
        url.set_query(Some(&*query).filter(|query| !query.is_empty()));
    }
    url.query_pairs_mut().append_pair(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProviderKind;
    use crate::provider::descriptor::Descriptor;
    use crate::store::Json;

    /// Where the list goes on behind the answer to that query, and nothing where it ends there.
    fn next(kind: ProviderKind, operation: &str, query: &str, body: &str) -> Option<String> {
        let descriptor = Descriptor::built_in(kind);
        let described = descriptor.operation(operation).unwrap().page.as_ref().unwrap();
        shown(described, query, body)
    }

    fn shown(described: &Described, query: &str, body: &str) -> Option<String> {
        let url = Url::parse(&format!("https://a.com/x{query}")).unwrap();
        let body = CalledBody::Json(Json(body.into()));
        match found(described, &body, &HeaderMap::new(), &url)?.next? {
            PagePlace::Query(name, value) => Some(format!("{name}={value}")),
            PagePlace::Url(url) => Some(url.into()),
        }
    }

    fn own(page: &str) -> Described {
        let text = format!(
            "pages.p = {page}\n[operations]\n\"things.list\" = {{ method = \"GET\", path = \"/x\", page = \"p\" }}\n"
        );
        let descriptor = Descriptor::read("own.toml", &text).unwrap();
        descriptor.operation("things.list").unwrap().page.clone().unwrap()
    }

    #[test]
    fn v27_each_provider_s_lists_go_on_as_it_says() {
        use ProviderKind::{Clerk, OpenAi, Stripe};
        let check = |kind, operation: &str, query: &str, body: &str, expected: Option<&str>| {
            assert_eq!(next(kind, operation, query, body).as_deref(), expected, "{query} {body}");
        };
        let more = r#"{"data":[{"id":"cus_1"},{"id":"cus_2"}],"has_more":true}"#;
        check(Stripe, "customers.list", "", more, Some("starting_after=cus_2"));
        let last = r#"{"data":[{"id":"cus_3"}],"has_more":false}"#;
        check(Stripe, "customers.list", "?starting_after=cus_2", last, None);
        check(Stripe, "customers.list", "", r#"{"data":[],"has_more":true}"#, None);
        let file = r#"{"data":[{"id":"a"}],"has_more":true,"last_id":"a"}"#;
        check(OpenAi, "files.list", "", file, Some("after=a"));
        let organization = r#"{"data":[{"id":"o"}],"total_count":4}"#;
        check(Clerk, "organizations.list", "", organization, Some("offset=1"));
        check(Clerk, "organizations.list", "?offset=2", organization, Some("offset=3"));
        check(Clerk, "organizations.list", "?offset=3", organization, None);
        // All that there are, as far as one can know: the next page will be empty.
        check(Clerk, "users.list", "", r#"[{"id":"u"}]"#, Some("offset=1"));
        check(Clerk, "users.list", "?limit=2", r#"[{"id":"u"}]"#, None);
        check(Clerk, "users.list", "", "[]", None);
    }

    #[test]
    fn a_page_that_is_full_as_far_as_the_provider_allows_is_full() {
        let page = own(r#"{ kind = "number", param = "page", size = { param = "n", max = 2 } }"#);
        let check = |query: &str, body: &str, expected: Option<&str>| {
            assert_eq!(shown(&page, query, body).as_deref(), expected, "{query}");
        };
        check("?n=1000", "[1,2]", Some("page=2"));
        check("?n=1000&page=7", "[1,2]", Some("page=8"));
        check("?n=1000", "[1]", None);
    }

    #[test]
    fn a_list_with_a_cursor_goes_on_behind_an_empty_page_until_nothing_new_is_named() {
        let page = own(r#"{ kind = "cursor", param = "c", cursor = "/next", items = ["/items"] }"#);
        let check = |query: &str, body: &str, expected: Option<&str>| {
            assert_eq!(shown(&page, query, body).as_deref(), expected, "{query} {body}");
        };
        check("?c=a", r#"{"items":[],"next":"b"}"#, Some("c=b"));
        check("?c=a", r#"{"next":"b"}"#, Some("c=b"));
        check("?c=a", r#"{"items":[],"next":"a"}"#, None);
        check("?c=a", r#"{"items":[1],"next":"a"}"#, Some("c=a"));
        check("?c=a", r#"{"items":[1],"next":""}"#, None);
        check("?c=a", r#"{"items":[1],"next":7}"#, Some("c=7"));
        let url = own(r#"{ kind = "url", url = "/next", items = ["/items"] }"#);
        let body = r#"{"items":[1],"next":"?page=2"}"#;
        assert_eq!(shown(&url, "?page=1", body).as_deref(), Some("https://a.com/x?page=2"));
    }

    #[test]
    fn an_answer_without_its_list_is_no_page() {
        let page = own(r#"{ kind = "whole", items = ["/items"] }"#);
        let url = Url::parse("https://a.com/x").unwrap();
        let page_of = |body: &str| {
            found(&page, &CalledBody::Json(Json(body.into())), &HeaderMap::new(), &url)
        };
        assert!(page_of(r#"{"items":[]}"#).is_some());
        assert!(page_of(r#"{"items":null}"#).is_some() && page_of("{}").is_some());
        assert!(page_of(r#"{"items":{"a":1}}"#).is_none());
    }

    #[test]
    fn a_field_of_a_query_is_set_once() {
        for (before, after) in [
            ("https://a.com/x", "https://a.com/x?c=a+b"),
            ("https://a.com/x?a[]=1&a[]=2", "https://a.com/x?a[]=1&a[]=2&c=a+b"),
            ("https://a.com/x?c=1&d=2&c=3", "https://a.com/x?d=2&c=a+b"),
            ("https://a.com/x?c=1", "https://a.com/x?c=a+b"),
        ] {
            let mut url = Url::parse(before).unwrap();
            set(&mut url, "c", "a b");
            assert_eq!(url.as_str(), after);
        }
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
