//! `db.COLLECTION.all(filter)`: every document that matches, for a `for`. It asks for a page when the one before is used up, so a run holds one
//! page at a time, however many there are; it goes on from where the last document stood, so that what comes and goes meanwhile moves nothing.

use std::any::TypeId;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::vec;

use rhai::{Dynamic, Map, Module};

use super::options::Reading;
use super::{Collection, id_of, parsed};
use crate::script::current::{Throw, ask};
use crate::script::host_call::{After, HostCall, HostReply};
use crate::script::value::filter::to_filter;
use crate::store::filter::Filter;
use crate::store::order::Rank;

/// What `all` gives. Nothing is read before a `for` takes the first.
#[derive(Clone)]
pub(crate) struct Documents {
    collection: Collection,
    filter: Filter,
    reading: Reading,
}

/// The functions.
pub(super) fn register(module: &mut Module) {
    module.set_custom_type::<Documents>("Documents");
    module.set_native_fn("all", |collection: Collection, filter: Map| {
        all(collection, &filter, &Map::new())
    });
    module.set_native_fn("all", |collection: Collection, filter: Map, options: Map| {
        all(collection, &filter, &options)
    });
    module.set_iter_result(TypeId::of::<Documents>(), |documents| {
        Box::new(Pages::of(documents.cast::<Documents>()))
    });
}

fn all(collection: Collection, filter: &Map, options: &Map) -> Result<Documents, Throw> {
    let reading = Reading::of_all(options)?;
    Ok(Documents { collection, filter: to_filter(filter)?, reading })
}

/// A `for` on its way through them.
struct Pages {
    documents: Documents,
    page: vec::IntoIter<Dynamic>,
    is_last: bool,
    /// With an order, a document whose field changes meanwhile comes to stand elsewhere, perhaps once more before us. 8 bytes for each that was given.
    given: Option<(RandomState, HashSet<u64>)>,
}

impl Pages {
    fn of(documents: Documents) -> Self {
        let given = documents.reading.order.is_some().then(Default::default);
        Self { documents, page: Vec::new().into_iter(), is_last: false, given }
    }

    /// The next page, and where to go on after it.
    fn turn(&mut self) -> Result<(), Throw> {
        let Documents { collection: Collection(collection), filter, reading } = &self.documents;
        let Reading { order, after, limit } = reading;
        let call = || {
            Ok(HostCall::Find {
                collection: collection.as_str().into(),
                filter: filter.clone(),
                order: order.clone(),
                after: after.clone(),
                limit: *limit,
            })
        };
        let (page, last) = ask("db.all", call, |reply| {
            let HostReply::Documents(bodies) = reply else { return Ok((Vec::new(), None)) };
            let page = bodies.iter().map(parsed).collect::<Result<Vec<_>, _>>()?;
            let id = page.last().and_then(identity);
            let last = bodies.last().zip(id).map(|(body, id)| Rank::of(order.as_ref(), &id, body));
            Ok((page, last))
        })?;
        self.is_last = page.len() < *limit || last.is_none();
        self.documents.reading.after = last.map(After::Rank);
        self.page = page.into_iter();
        Ok(())
    }

    fn is_new(&mut self, document: &Dynamic) -> bool {
        let Some((hasher, given)) = &mut self.given else { return true };
        identity(document).is_none_or(|id| given.insert(hasher.hash_one(id)))
    }
}

impl Iterator for Pages {
    type Item = Result<Dynamic, Throw>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.page.next() {
                Some(document) if self.is_new(&document) => return Some(Ok(document)),
                Some(_given_before) => {}
                None if self.is_last => return None,
                None => {
                    if let Err(error) = self.turn() {
                        self.is_last = true;
                        return Some(Err(error));
                    }
                }
            }
        }
    }
}

fn identity(document: &Dynamic) -> Option<std::sync::Arc<str>> {
    id_of(document.read_lock::<Map>()?.get("id")?)
}
