//! `db.COLLECTION`: documents. Every function turns its arguments into a `HostCall` and waits for the reply; what is written is visible
//! to the run at once and committed with it.

use std::sync::Arc;

use rhai::{Array, Dynamic, ImmutableString, Map, Module};

use crate::script::current::{Throw, ask, fail};
use crate::script::host_call::{HostCall, HostReply};
use crate::script::value::filter::to_filter;
use crate::script::value::{self, Limits};
use crate::store::{DocumentKey, Json, Number};

mod all;
mod options;

use self::options::{Reading, Writing};

/// Characters of a collection's name or a document's id, at most.
const NAME_MAX: usize = 512;

/// A document's JSON, at most.
const DOCUMENT: Limits = Limits { bytes: 16 << 20 };

/// The value that scripts call `db`.
#[derive(Clone, Copy)]
pub(crate) struct Db;

/// `db.users`.
#[derive(Clone)]
pub(crate) struct Collection(ImmutableString);

/// The functions.
pub(crate) fn register(module: &mut Module) {
    module.set_custom_type::<Db>("Db");
    module.set_custom_type::<Collection>("Collection");
    module.set_indexer_get_fn(|_db: &mut Db, name: ImmutableString| collection(name));
    module.set_native_fn("get", |collection: Collection, id: Dynamic| get(&collection, &id));
    module.set_native_fn("insert", |collection: Collection, id: Dynamic, body: Map| {
        insert(&collection, &id, body, &Writing::default())
    });
    module.set_native_fn(
        "insert",
        |collection: Collection, id: Dynamic, body: Map, options: Map| {
            insert(&collection, &id, body, &Writing::of_insert(&options)?)
        },
    );
    module.set_native_fn("put", |collection: Collection, id: Dynamic, body: Map| {
        put(&collection, &id, body, &Writing::default())
    });
    module.set_native_fn("put", |collection: Collection, id: Dynamic, body: Map, options: Map| {
        put(&collection, &id, body, &Writing::of_put(&options)?)
    });
    module.set_native_fn("patch", |collection: Collection, id: Dynamic, changes: Map| {
        let changes = changes.into();
        let call =
            || Ok(HostCall::Patch { key: key(&collection, &id)?, changes: document(&changes)? });
        ask("db.patch", call, boolean)
    });
    module.set_native_fn("delete", |collection: Collection, id: Dynamic| {
        delete(&collection, &id, false)
    });
    module.set_native_fn("delete", |collection: Collection, id: Dynamic, options: Map| {
        delete(&collection, &id, options::tombstone(&options)?)
    });
    module.set_native_fn(
        "increment",
        |collection: Collection, id: Dynamic, field: ImmutableString, by: Dynamic| {
            increment(&collection, &id, &field, &by)
        },
    );
    module.set_native_fn("find", |collection: Collection, filter: Map| {
        find(&collection, &filter, &Map::new())
    });
    module.set_native_fn("find", |collection: Collection, filter: Map, options: Map| {
        find(&collection, &filter, &options)
    });
    module.set_native_fn("list", |collection: Collection| {
        find(&collection, &Map::new(), &Map::new())
    });
    module.set_native_fn("list", |collection: Collection, options: Map| {
        find(&collection, &Map::new(), &options)
    });
    module.set_native_fn("count", |collection: Collection| count(&collection, &Map::new()));
    module
        .set_native_fn("count", |collection: Collection, filter: Map| count(&collection, &filter));
    all::register(module);
}

fn collection(name: ImmutableString) -> Result<Collection, Throw> {
    if name.is_empty() || name.len() > NAME_MAX || name.contains(char::is_control) {
        return Err(fail(
            "a collection's name has 1 to 512 characters, none of them a control character",
        ));
    }
    Ok(Collection(name))
}

fn key(Collection(collection): &Collection, id: &Dynamic) -> Result<DocumentKey, Throw> {
    let wrong = || {
        fail(&format!(
            "a document's id is a string of 1 to {NAME_MAX} bytes or an integer, not {}",
            described(id)
        ))
    };
    let id = id_of(id).ok_or_else(wrong)?;
    Ok(DocumentKey { collection: collection.as_str().into(), id })
}

/// The id that a value is; `None` where it is none.
fn id_of(value: &Dynamic) -> Option<Arc<str>> {
    if let Ok(number) = value.as_int() {
        return Some(number.to_string().into());
    }
    let text = value.read_lock::<ImmutableString>()?;
    let fits = !text.is_empty() && text.len() <= NAME_MAX;
    fits.then(|| text.as_str().into())
}

fn described(id: &Dynamic) -> String {
    match id.type_name() {
        "()" => "(), so the value that should hold it is missing".to_owned(),
        "string" => "one that is empty or longer".to_owned(),
        kind => format!("a value of type {kind}"),
    }
}

fn document(body: &Dynamic) -> Result<Json, Throw> {
    Ok(Json(value::to_json(body, DOCUMENT)?.into()))
}

fn get(collection: &Collection, id: &Dynamic) -> Result<Dynamic, Throw> {
    ask(
        "db.get",
        || Ok(HostCall::Get(key(collection, id)?)),
        |reply| match reply {
            HostReply::Document(Some(body)) => parsed(body),
            _ => Ok(Dynamic::UNIT),
        },
    )
}

fn insert(
    collection: &Collection,
    id: &Dynamic,
    body: Map,
    options: &Writing,
) -> Result<(), Throw> {
    let body = body.into();
    let call = || {
        Ok(HostCall::Insert { key: key(collection, id)?, body: document(&body)?, ttl: options.ttl })
    };
    ask("db.insert", call, unit)
}

fn put(collection: &Collection, id: &Dynamic, body: Map, options: &Writing) -> Result<bool, Throw> {
    let body = body.into();
    let call = || {
        Ok(HostCall::Put {
            key: key(collection, id)?,
            body: document(&body)?,
            if_newer: options.if_newer.as_ref().map(|field| field.as_str().into()),
            ttl: options.ttl,
        })
    };
    ask("db.put", call, boolean)
}

fn delete(collection: &Collection, id: &Dynamic, tombstone: bool) -> Result<(), Throw> {
    ask("db.delete", || Ok(HostCall::Delete { key: key(collection, id)?, tombstone }), unit)
}

fn increment(
    collection: &Collection,
    id: &Dynamic,
    field: &str,
    by: &Dynamic,
) -> Result<(), Throw> {
    let by = match (by.as_int(), by.as_float()) {
        (Ok(number), _) => Number::Integer(number),
        (_, Ok(number)) if number.is_finite() => Number::Float(number),
        _ => return Err(fail(&format!("`increment` adds a number, not {}", value::to_text(by)))),
    };
    let call = || Ok(HostCall::Increment { key: key(collection, id)?, field: field.into(), by });
    ask("db.increment", call, unit)
}

fn find(
    Collection(collection): &Collection,
    filter: &Map,
    options: &Map,
) -> Result<Dynamic, Throw> {
    let Reading { order, after, limit } = Reading::of_find(options)?;
    let call = || {
        Ok(HostCall::Find {
            collection: collection.as_str().into(),
            filter: to_filter(filter)?,
            order: order.clone(),
            after: after.clone(),
            limit,
        })
    };
    ask("db.find", call, |reply| match reply {
        HostReply::Documents(bodies) => {
            Ok(bodies.iter().map(parsed).collect::<Result<Array, _>>()?.into())
        }
        _ => Ok(Array::new().into()),
    })
}

fn count(Collection(collection): &Collection, filter: &Map) -> Result<i64, Throw> {
    let call = || {
        Ok(HostCall::Count { collection: collection.as_str().into(), filter: to_filter(filter)? })
    };
    ask("db.count", call, |reply| match reply {
        HostReply::Count(count) => Ok(i64::try_from(*count).unwrap_or(i64::MAX)),
        _ => Ok(0),
    })
}

fn parsed(Json(body): &Json) -> Result<Dynamic, Throw> {
    Ok(value::from_json(body, Limits::NONE)?)
}

fn boolean(reply: &HostReply) -> Result<bool, Throw> {
    Ok(matches!(reply, HostReply::Bool(true)))
}

fn unit(_reply: &HostReply) -> Result<(), Throw> {
    Ok(())
}
