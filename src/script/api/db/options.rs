//! The options maps of `db.COLLECTION`. An unknown option is an error that names those that exist.

use std::time::Duration;

use rhai::{Dynamic, ImmutableString, Map};

use super::{DOCUMENT, id_of};
use crate::script::current::{Throw, fail};
use crate::script::host_call::After;
use crate::script::value::to_json;
use crate::store::Json;
use crate::store::order::{Order, Rank};
use crate::units;

/// What `find` and `list` give where the script does not say.
const LIMIT: usize = 100;
/// And what they give at most.
const LIMIT_MAX: i64 = 1000;
/// The longest `ttl`, 10 years: what is to be kept longer is to be kept.
const TTL_MAX: Duration = Duration::from_secs(3_650 * 86_400);

/// Of `put` and `insert`.
#[derive(Default)]
pub(super) struct Writing {
    pub(super) if_newer: Option<ImmutableString>,
    pub(super) ttl: Option<Duration>,
}

impl Writing {
    pub(super) fn of_put(options: &Map) -> Result<Self, Throw> {
        Self::read(options, "put", &["if_newer", "ttl"])
    }

    pub(super) fn of_insert(options: &Map) -> Result<Self, Throw> {
        Self::read(options, "insert", &["ttl"])
    }

    fn read(options: &Map, function: &str, known: &[&str]) -> Result<Self, Throw> {
        let mut read = Self::default();
        for (name, option) in options {
            match name.as_str() {
                "if_newer" if known.contains(&"if_newer") => {
                    read.if_newer = Some(text(option, "`if_newer` names a field")?);
                }
                "ttl" => read.ttl = Some(ttl(option)?),
                _ => return Err(unknown(name, function, known)),
            }
        }
        Ok(read)
    }
}

/// Of `find`, `list` and `all`: which documents of those that match, and in which order.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) order: Option<Order>,
    pub(super) after: Option<After>,
    pub(super) limit: usize,
}

impl Reading {
    pub(super) fn of_find(options: &Map) -> Result<Self, Throw> {
        let limit = match options.get("limit") {
            None => LIMIT,
            Some(option) => {
                let number = option.as_int().ok().filter(|number| (1..=LIMIT_MAX).contains(number));
                number
                    .and_then(|number| usize::try_from(number).ok())
                    .ok_or_else(|| fail(&format!("`limit` is a number from 1 to {LIMIT_MAX}")))?
            }
        };
        Self::read(options, limit, "`find` and `list`", &["limit", "after", "order_by"])
    }

    /// It gives every page, so there is no limit to name.
    pub(super) fn of_all(options: &Map) -> Result<Self, Throw> {
        Self::read(options, LIMIT, "`all`", &["after", "order_by"])
    }

    fn read(options: &Map, limit: usize, who: &str, known: &[&str]) -> Result<Self, Throw> {
        if let Some(name) = options.keys().find(|name| !known.contains(&name.as_str())) {
            let known = known.join(", ");
            return Err(fail(&format!("unknown option `{name}`; {who} know {known}")));
        }
        let order = options.get("order_by").map(order_by).transpose()?;
        // An empty text stands before every id, for who asks for the first page as for the others.
        let given = options.get("after").filter(|option| !is_empty(option));
        let after = given.map(|option| after(option, order.as_ref())).transpose()?;
        Ok(Self { order, after, limit })
    }
}

/// Of `delete`.
pub(super) fn tombstone(options: &Map) -> Result<bool, Throw> {
    let mut tombstone = false;
    for (name, option) in options {
        match name.as_str() {
            "tombstone" => {
                tombstone = option.as_bool().map_err(|_| fail("`tombstone` is true or false"))?
            }
            _ => return Err(unknown(name, "delete", &["tombstone"])),
        }
    }
    Ok(tombstone)
}

fn ttl(option: &Dynamic) -> Result<Duration, Throw> {
    let wrong = |why: &str| {
        let most = units::print_duration(TTL_MAX);
        fail(&format!("`ttl` is a duration from 1ms to {most}, such as \"1h\"{why}"))
    };
    let given = match option.as_int() {
        Ok(number) => number.to_string(),
        Err(_) => option.clone().into_string().map_err(|kind| wrong(&format!(", not {kind}")))?,
    };
    let ttl = units::parse_duration(&given).map_err(|error| wrong(&format!(": {error}")))?;
    if ttl.is_zero() || ttl > TTL_MAX {
        return Err(wrong(&format!("; this is {}", units::print_duration(ttl))));
    }
    Ok(ttl)
}

fn order_by(option: &Dynamic) -> Result<Order, Throw> {
    const WANTED: &str = "`order_by` names a field, such as \"created_at\", \"customer.id\", or \"-created_at\" for the largest first";
    Order::parse(&text(option, WANTED)?).ok_or_else(|| fail(WANTED))
}

/// An id, or a document as it was read; of that only the field that orders counts, and its id.
fn after(option: &Dynamic, order: Option<&Order>) -> Result<After, Throw> {
    let wrong = || fail("`after` is the id of the last document seen, or that document");
    let Some(document) = option.read_lock::<Map>() else {
        return id_of(option).map(|id| After::Id((&*id).into())).ok_or_else(wrong);
    };
    let id = document.get("id").and_then(id_of).ok_or_else(wrong)?;
    Ok(After::Rank(match order {
        None => Rank::of_id(&id),
        Some(_) => Rank::of(order, &id, &Json(to_json(option, DOCUMENT)?.into())),
    }))
}

fn is_empty(option: &Dynamic) -> bool {
    option.read_lock::<ImmutableString>().is_some_and(|text| text.is_empty())
}

fn text(value: &Dynamic, wanted: &str) -> Result<ImmutableString, Throw> {
    value.clone().into_immutable_string().map_err(|_| fail(wanted))
}

fn unknown(name: &str, function: &str, known: &[&str]) -> Throw {
    fail(&format!("unknown option `{name}`; `{function}` knows {}", known.join(", ")))
}
