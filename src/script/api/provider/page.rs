//! What `list` gives: the answer as any other, `page.data` and all, and in a `for` every item of the list, page after page, each fetched when the one
//! before is used up. Whatever takes plain data takes the answer of the first page.

use std::any::TypeId;
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use std::vec;

use rhai::{Array, Dynamic, ImmutableString, Map, Module};

use super::answer;
use crate::script::call::{Page as Told, PagePlace, ProviderCall};
use crate::script::current::{Throw, ask, fail};
use crate::script::host_call::{HostCall, HostReply};

/// One answer, and how the list goes on.
#[derive(Clone)]
pub(in crate::script) struct Page(Rc<Listed>);

struct Listed {
    call: ProviderCall,
    /// `stripe.customers.list`.
    shown: ImmutableString,
    body: Dynamic,
    told: Option<Told>,
}

/// The functions.
pub(super) fn register(module: &mut Module) {
    module.set_custom_type::<Page>("Page");
    module.set_indexer_get_fn(|page: &mut Page, name: ImmutableString| {
        let body = page.body().read_lock::<Map>();
        let own = body.and_then(|map| map.get(name.as_str()).cloned());
        // Where a list stands is the provider's business, and some answer with the bare list.
        let items = || if name == "items" { page.items().into() } else { Dynamic::UNIT };
        Ok(own.unwrap_or_else(items))
    });
    module.set_indexer_get_fn(|page: &mut Page, index: i64| {
        Ok(page.look(|items| {
            let from_end = || index.checked_add_unsigned(items.len() as u64);
            let place = if index < 0 { from_end() } else { Some(index) };
            let item = place.and_then(|place| items.get(usize::try_from(place).ok()?));
            item.cloned().unwrap_or_default()
        }))
    });
    module.set_native_fn("len", |page: Page| {
        Ok(i64::try_from(page.look(<[Dynamic]>::len)).unwrap_or(i64::MAX))
    });
    module.set_iter_result(TypeId::of::<Page>(), |page| Box::new(Items::of(&page.cast::<Page>())));
}

/// Asks for the first page.
pub(super) fn first(
    shown: &str,
    call: impl FnOnce() -> Result<ProviderCall, Throw>,
) -> Result<Dynamic, Throw> {
    let call = call()?;
    fetch(&call, shown).map(Dynamic::from)
}

fn fetch(call: &ProviderCall, shown: &str) -> Result<Page, Throw> {
    let asked = || Ok(HostCall::Provider(Box::new(call.clone())));
    let (body, told) = ask(shown, asked, |reply| {
        let HostReply::Called(called) = reply else { return Ok((Dynamic::UNIT, None)) };
        Ok((answer::decoded(&called.body)?, called.page.as_deref().cloned()))
    })?;
    Ok(Page(Rc::new(Listed { call: call.clone(), shown: shown.into(), body, told })))
}

impl Page {
    /// The answer, as plain data.
    pub(in crate::script) fn body(&self) -> &Dynamic {
        &self.0.body
    }

    /// Looks at its items; none where the answer has no list.
    fn look<R>(&self, look: impl FnOnce(&[Dynamic]) -> R) -> R {
        match &self.0.told {
            Some(told) => look_below(&self.0.body, &told.items, look),
            None => look(&[]),
        }
    }

    fn items(&self) -> Array {
        self.look(<[Dynamic]>::to_vec)
    }

    fn next(&self) -> Option<PagePlace> {
        self.0.told.as_ref().and_then(|told| told.next.clone())
    }
}

/// The list that these names lead to.
fn look_below<R>(value: &Dynamic, names: &[Box<str>], look: impl FnOnce(&[Dynamic]) -> R) -> R {
    let Some((name, below)) = names.split_first() else {
        return match value.read_lock::<Array>() {
            Some(items) => look(&items),
            None => look(&[]),
        };
    };
    let map = value.read_lock::<Map>();
    match map.as_ref().and_then(|map| map.get(&**name)) {
        Some(inner) => look_below(inner, below, look),
        None => look(&[]),
    }
}

/// A `for` on its way through a list.
struct Items {
    page: Page,
    items: vec::IntoIter<Dynamic>,
    /// Pages that were asked for; of each only this, since a list may be long.
    asked: HashSet<u64>,
    hasher: RandomState,
    is_over: bool,
}

impl Items {
    fn of(page: &Page) -> Self {
        Self {
            items: page.items().into_iter(),
            page: page.clone(),
            asked: HashSet::new(),
            hasher: RandomState::new(),
            is_over: false,
        }
    }

    /// Goes on to the next page; false: there is none.
    fn turn(&mut self) -> Result<bool, Throw> {
        let Listed { call, shown, body, told } = &*self.page.0;
        if told.is_none() && !body.is_unit() {
            return Err(fail(&format!(
                "the answer of `{shown}` has no list where `items` of its descriptor says"
            )));
        }
        let Some(place) = self.page.next() else { return Ok(false) };
        if !self.asked.insert(self.hasher.hash_one(&place)) {
            return Err(fail(&format!(
                "`{shown}` names a page again that it has named before, so the list has no end"
            )));
        }
        let call = ProviderCall { page: Some(place), ..call.clone() };
        self.page = fetch(&call, shown)?;
        self.items = self.page.items().into_iter();
        Ok(true)
    }
}

impl Iterator for Items {
    type Item = Result<Dynamic, Throw>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.items.next() {
                return Some(Ok(item));
            }
            if self.is_over {
                return None;
            }
            match self.turn() {
                Ok(true) => {}
                Ok(false) => self.is_over = true,
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            }
        }
    }
}
