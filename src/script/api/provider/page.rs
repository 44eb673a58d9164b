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
use crate::script::value::Kind;
use crate::script::value::kind;

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
        Ok(body.and_then(|map| map.get(name.as_str()).cloned()).unwrap_or_default())
    });
    module.set_indexer_get_fn(|page: &mut Page, index: i64| {
        let items = page.items();
        let place =
            if index < 0 { index.checked_add_unsigned(items.len() as u64) } else { Some(index) };
        let item = place.and_then(|place| items.get(usize::try_from(place).ok()?).cloned());
        Ok(item.unwrap_or_default())
    });
    module.set_native_fn("len", |page: Page| {
        Ok(i64::try_from(page.items().len()).unwrap_or(i64::MAX))
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

    /// Its items; none where the answer has no list.
    fn items(&self) -> Array {
        let Some(told) = &self.0.told else { return Array::new() };
        let mut value = self.0.body.clone();
        for name in &told.items {
            let inner = value.read_lock::<Map>().and_then(|map| map.get(&**name).cloned());
            value = inner.unwrap_or_default();
        }
        if kind(&value) == Kind::Array {
            value.into_array().unwrap_or_default()
        } else {
            Array::new()
        }
    }

    fn next(&self) -> Option<PagePlace> {
        self.0.told.as_ref().and_then(|told| told.next.clone())
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
