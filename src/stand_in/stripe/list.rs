//! Lists, from newest to oldest and a page at a time (`starting_after`, `has_more`), and searches
//! (<https://docs.stripe.com/api/pagination>, <https://docs.stripe.com/search>).

use serde_json::{Value, json};

use super::super::objects::{self, Page};
use super::super::request::Request;
use super::Stripe;
use super::error::Problem;

/// Objects of one page, and how many where nothing is said.
const PAGE_MAX: usize = 100;
const PAGE: usize = 10;

impl Stripe {
    pub(super) fn list(&self, resource: usize, request: &Request) -> Result<Value, Problem> {
        let row = &self.resources[resource];
        let limit = limit(request)?;
        let is_wanted = |object: &&Value| {
            // Subscriptions that are over are listed only where they are asked for.
            let is_over = row.path == "subscriptions" && object["status"] == "canceled";
            let status = request.query("status");
            (!is_over || matches!(status, Some("canceled" | "all" | "ended")))
                && row.filters.iter().all(|name| {
                    let value = request.query(name).filter(|value| *value != "all");
                    value.is_none_or(|value| is_text(&object[name], value))
                })
        };
        let all = self.objects[resource].newest_first().filter(is_wanted);
        let no_such = |param: &str, id: &str| Problem::no_such(&row.object, id, param);
        let page = match (request.query("starting_after"), request.query("ending_before")) {
            (Some(_), Some(_)) => {
                let message = "You cannot parameterize both starting_after and ending_before.";
                return Err(Problem::bad(message, Some("ending_before")));
            }
            (None, Some(before)) => {
                let page = objects::page_after(all.rev(), Some(before), limit)
                    .map_err(|_| no_such("ending_before", before))?;
                Page { items: page.items.into_iter().rev().collect(), has_more: page.has_more }
            }
            (after, None) => objects::page_after(all, after, limit)
                .map_err(|_| no_such("starting_after", after.unwrap_or_default()))?,
        };
        Ok(json!({
            "object": "list",
            "url": format!("/v1/{}", row.path),
            "has_more": page.has_more,
            "data": page.items,
        }))
    }

    pub(super) fn search(&self, resource: usize, request: &Request) -> Result<Value, Problem> {
        let row = &self.resources[resource];
        let query = request.query("query").ok_or_else(|| Problem::missing("query"))?;
        let clauses: Vec<Clause> = query
            .split(" AND ")
            .map(|clause| {
                Clause::read(clause.trim()).ok_or_else(|| {
                    let message = format!("We were unable to parse your search query: `{clause}`. Please see the docs for more information.");
                    Problem::bad(message, Some("query"))
                })
            })
            .collect::<Result<_, _>>()?;
        let is_wanted = |object: &&Value| clauses.iter().all(|clause| clause.holds(object));
        let all = self.objects[resource].newest_first().filter(is_wanted);
        let page = objects::page_after(all, request.query("page"), limit(request)?)
            .map_err(|_| Problem::bad("Invalid search page.", Some("page")))?;
        let last = page.items.last().map_or(Value::Null, |object| object["id"].clone());
        Ok(json!({
            "object": "search_result",
            "url": format!("/v1/{}/search", row.path),
            "has_more": page.has_more,
            "next_page": if page.has_more { last } else { Value::Null },
            "data": page.items,
        }))
    }
}

fn limit(request: &Request) -> Result<usize, Problem> {
    let text = request.query("limit").unwrap_or_default();
    let limit = request.number("limit").map_err(|()| {
        Problem::bad(format!("Invalid integer: {text}"), Some("limit"))
            .with_code("parameter_invalid_integer")
    })?;
    match limit {
        None => Ok(PAGE),
        Some(limit @ 1..=PAGE_MAX) => Ok(limit),
        Some(0) => {
            Err(Problem::bad("This value must be greater than or equal to 1.", Some("limit"))
                .with_code("parameter_invalid_integer"))
        }
        Some(_) => Err(Problem::bad(
            format!(
                "This value must be less than or equal to {PAGE_MAX} (it currently is '{text}')."
            ),
            Some("limit"),
        )
        .with_code("parameter_invalid_integer")),
    }
}

/// Whether a value is what a query says of it.
fn is_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(own) => own == text,
        Value::Null => false,
        // A number, true or false: none of them is escaped.
        other => format!("{other}") == text,
    }
}

/// `field:'value'`, `metadata['key']:'value'` or `field~'part'`.
struct Clause {
    field: String,
    /// Of a metadata field.
    key: Option<String>,
    is_part: bool,
    value: String,
}

impl Clause {
    fn read(text: &str) -> Option<Self> {
        let at = text.find([':', '~'])?;
        let (field, value) = text.split_at(at);
        let is_part = value.starts_with('~');
        let value = value.get(1..)?.trim_matches(['\'', '"']).to_owned();
        let (field, key) = match field.split_once('[') {
            Some((field, key)) => {
                (field, Some(key.strip_suffix(']')?.trim_matches(['\'', '"']).to_owned()))
            }
            None => (field, None),
        };
        (!field.is_empty()).then(|| Self { field: field.to_owned(), key, is_part, value })
    }

    fn holds(&self, object: &Value) -> bool {
        let value = &object[&self.field];
        let value = self.key.as_ref().map_or(value, |key| &value[key]);
        if self.is_part {
            let own = value.as_str().unwrap_or_default().to_lowercase();
            return own.contains(&self.value.to_lowercase());
        }
        is_text(value, &self.value)
    }
}
