//! `db.COLLECTION`: documents. Every function turns its arguments into a `HostCall` and waits for the reply; what is written is visible
//! to the run at once and committed with it.

use std::sync::Arc;

use rhai::{Array, Dynamic, ImmutableString, Map, Module};

use crate::script::current::{Throw, ask, fail};
use crate::script::host_call::{HostCall, HostReply};
use crate::script::value::filter::to_filter;
use crate::script::value::{self, Limits};
use crate::store::{DocumentKey, Json, Number};

/// What `find` and `list` give where the script does not say.
const LIMIT: usize = 100;
/// And what they give at most.
const LIMIT_MAX: i64 = 1000;
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
        let body = body.into();
        let call = || Ok(HostCall::Insert { key: key(&collection, &id)?, body: document(&body)? });
        ask("db.insert", call, unit)
    });
    module.set_native_fn("put", |collection: Collection, id: Dynamic, body: Map| {
        put(&collection, &id, body, None)
    });
    module.set_native_fn("put", |collection: Collection, id: Dynamic, body: Map, options: Map| {
        put(&collection, &id, body, if_newer(&options)?.as_ref())
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
        delete(&collection, &id, tombstone(&options)?)
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
    let id: Arc<str> = match id.as_int() {
        Ok(number) => number.to_string().into(),
        Err(_) => {
            let text = id.read_lock::<ImmutableString>().ok_or_else(wrong)?;
            if text.is_empty() || text.len() > NAME_MAX {
                return Err(wrong());
            }
            text.as_str().into()
        }
    };
    Ok(DocumentKey { collection: collection.as_str().into(), id })
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

fn put(
    collection: &Collection,
    id: &Dynamic,
    body: Map,
    if_newer: Option<&ImmutableString>,
) -> Result<bool, Throw> {
    let body = body.into();
    let call = || {
        Ok(HostCall::Put {
            key: key(collection, id)?,
            body: document(&body)?,
            if_newer: if_newer.map(|field| field.as_str().into()),
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
    let (mut limit, mut after) = (LIMIT, None);
    for (name, option) in options {
        match name.as_str() {
            "limit" => {
                let number = option.as_int().ok().filter(|number| (1..=LIMIT_MAX).contains(number));
                let number = number.and_then(|number| usize::try_from(number).ok());
                limit = number
                    .ok_or_else(|| fail(&format!("`limit` is a number from 1 to {LIMIT_MAX}")))?;
            }
            "after" => after = Some(text(option, "`after` is the id of the last document seen")?),
            _ => {
                return Err(fail(&format!(
                    "unknown option `{name}`; `find` and `list` know limit, after"
                )));
            }
        }
    }
    let call = || {
        Ok(HostCall::Find {
            collection: collection.as_str().into(),
            filter: to_filter(filter)?,
            after: after.as_ref().map(|after| after.as_str().into()),
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

fn if_newer(options: &Map) -> Result<Option<ImmutableString>, Throw> {
    let mut field = None;
    for (name, option) in options {
        match name.as_str() {
            "if_newer" => field = Some(text(option, "`if_newer` names a field")?),
            _ => return Err(fail(&format!("unknown option `{name}`; `put` knows if_newer"))),
        }
    }
    Ok(field)
}

fn text(value: &Dynamic, wanted: &str) -> Result<ImmutableString, Throw> {
    value.clone().into_immutable_string().map_err(|_| fail(wanted))
}

fn tombstone(options: &Map) -> Result<bool, Throw> {
    let mut tombstone = false;
    for (name, option) in options {
        match name.as_str() {
            "tombstone" => {
                tombstone = option.as_bool().map_err(|_| fail("`tombstone` is true or false"))?
            }
            _ => return Err(fail(&format!("unknown option `{name}`; `delete` knows tombstone"))),
        }
    }
    Ok(tombstone)
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
