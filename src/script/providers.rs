//! What scripts may say of providers, as plain data: their names, and what each of them offers by name. The loader and `check` judge calls by it,
//! and a call is taken apart by it; how a provider is reached is nobody's business here.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The providers of config, by their names there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProviderNames {
    by_name: BTreeMap<Arc<str>, Arc<Offers>>,
}

/// The named operations of one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offers {
    operations: BTreeMap<Arc<str>, Shape>,
}

/// How an operation is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Names of its path parameters, in the order in which they are given.
    pub(crate) path_parameters: Vec<Box<str>>,
    /// Whether `stream: true` among its parameters gives the answer as it comes.
    pub(crate) streams: bool,
    /// Whether its answer is a page of a list, which a `for` goes through to its end.
    pub(crate) is_list: bool,
}

impl ProviderNames {
    /// For these providers.
    pub(crate) fn new(by_name: BTreeMap<Arc<str>, Arc<Offers>>) -> Self {
        Self { by_name }
    }

    /// What the provider of that name offers, if there is one.
    pub(crate) fn get(&self, name: &str) -> Option<(&Arc<str>, &Arc<Offers>)> {
        self.by_name.get_key_value(name)
    }

    /// Every name.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_name.keys()
    }

    /// Every provider with what it offers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Offers>)> {
        self.by_name.iter()
    }
}

impl Offers {
    /// From operations by their whole names, such as `checkout.sessions.create`.
    pub(crate) fn new(operations: BTreeMap<Arc<str>, Shape>) -> Self {
        Self { operations }
    }

    /// The operation of that whole name.
    pub(crate) fn operation(&self, name: &str) -> Option<(&Arc<str>, &Shape)> {
        self.operations.get_key_value(name)
    }

    /// Whether operations stand below that name.
    pub(crate) fn is_resource(&self, name: &str) -> bool {
        self.below(name).next().is_some()
    }

    /// The whole names of the operations below a resource.
    pub(crate) fn below<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a Arc<str>> {
        let names = self
            .operations
            .range::<str, _>((std::ops::Bound::Excluded(resource), std::ops::Bound::Unbounded));
        names.map(|(name, _)| name).take_while(move |name| name.starts_with(resource)).filter(
            move |name| name.as_bytes().get(resource.len()).is_some_and(|next| *next == b'.'),
        )
    }

    /// Every whole name.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.operations.keys()
    }

    /// The last words of all names, such as `create`: what stands before an opening parenthesis.
    pub(crate) fn verbs(&self) -> impl Iterator<Item = &str> {
        self.operations.keys().filter_map(|name| name.rsplit('.').next())
    }
}
