//! Providers as scripts may name them: which resources and operations each has, and what a call of one takes. Plain data, made of
//! descriptors by who knows both. Nothing here knows how a call is made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Every provider by the name that config gives it.
pub(crate) type ProviderNames = BTreeMap<Arc<str>, Arc<Tree>>;

/// What stands behind the dot of a provider or of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<Box<str>, Node>);

/// One name of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// `customers`: more names behind it.
    Resource(Tree),
    /// `create`: can be called.
    Operation(Takes),
}

/// What a call of an operation takes, before its options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Takes {
    /// Path parameters in their order. All of them must be given.
    pub(crate) path: Box<[Box<str>]>,
    /// Whether params may follow.
    pub(crate) params: bool,
    /// Whether `stream: true` among them gives the answer as it comes.
    pub(crate) streams: bool,
    /// Whether files may stand among them.
    pub(crate) files: bool,
    /// Whether the answer is a page of a list, which a `for` goes through to its end.
    pub(crate) is_list: bool,
}

/// What every provider has: a function, the fewest and the most arguments that it takes, and how it is written.
pub(crate) const FUNCTIONS: [(&str, usize, usize, &str); 8] = [
    ("get", 1, 2, "get(path, [options])"),
    ("post", 1, 2, "post(path, [options])"),
    ("put", 1, 2, "put(path, [options])"),
    ("patch", 1, 2, "patch(path, [options])"),
    ("delete", 1, 2, "delete(path, [options])"),
    ("request", 2, 3, "request(method, path, [options])"),
    ("is_healthy", 0, 0, "is_healthy()"),
    ("health", 0, 0, "health()"),
];

/// What every provider has that is no function.
pub(crate) const PROPERTIES: [&str; 1] = ["name"];

impl Tree {
    /// The tree of operations with dotted names, such as `checkout.sessions.create`. A name that is a resource already stays one.
    pub(crate) fn of<'a>(operations: impl IntoIterator<Item = (&'a str, Takes)>) -> Self {
        let mut tree = Self::default();
        for (name, takes) in operations {
            tree.add(name, takes);
        }
        tree
    }

    fn add(&mut self, name: &str, takes: Takes) {
        match name.split_once('.') {
            None => _ = self.0.entry(name.into()).or_insert(Node::Operation(takes)),
            Some((resource, below)) => {
                let node = self.0.entry(resource.into());
                if let Node::Resource(tree) = node.or_insert(Node::Resource(Self::default())) {
                    tree.add(below, takes);
                }
            }
        }
    }

    /// What has this name here.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.0.get(name)
    }

    /// What a name with dots leads to: `checkout.sessions.create`.
    pub(crate) fn find(&self, whole: &str) -> Option<&Node> {
        match whole.split_once('.') {
            None => self.get(whole),
            Some((resource, below)) => match self.get(resource)? {
                Node::Resource(tree) => tree.find(below),
                Node::Operation(_) => None,
            },
        }
    }

    /// The last words of all names: what stands before an opening parenthesis.
    pub(crate) fn verbs(&self) -> BTreeSet<&str> {
        let mut verbs = BTreeSet::new();
        for (name, node) in &self.0 {
            match node {
                Node::Resource(tree) => verbs.extend(tree.verbs()),
                Node::Operation(_) => _ = verbs.insert(&**name),
            }
        }
        verbs
    }

    /// The names here, in the order of the alphabet.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(AsRef::as_ref)
    }

    /// Whether there is nothing behind the dot.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Takes {
    /// Whether a call with so many arguments can be meant; the last may be the options.
    pub(crate) fn fits(&self, arguments: usize) -> bool {
        let least = self.path.len();
        (least..=least + usize::from(self.params) + 1).contains(&arguments)
    }
}

/// `(id, [params], [options])`.
impl fmt::Display for Takes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.iter().map(AsRef::as_ref);
        let rest = self.params.then_some("[params]").into_iter().chain(["[options]"]);
        write!(formatter, "({})", path.chain(rest).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(path: &[&str], params: bool) -> Takes {
        let path = path.iter().map(|name| (*name).into()).collect();
        Takes { path, params, ..Takes::default() }
    }

    #[test]
    fn operations_stand_below_their_resources() {
        let tree = Tree::of([
            ("customers.create", takes(&[], true)),
            ("checkout.sessions.expire", takes(&["id"], true)),
            ("customers.retrieve", takes(&["id"], true)),
        ]);
        assert_eq!(tree.names().collect::<Vec<_>>(), ["checkout", "customers"]);
        let Some(Node::Resource(customers)) = tree.get("customers") else { panic!("{tree:?}") };
        assert_eq!(customers.names().collect::<Vec<_>>(), ["create", "retrieve"]);
        let Some(Node::Operation(retrieve)) = customers.get("retrieve") else { panic!("{tree:?}") };
        assert_eq!(retrieve.to_string(), "(id, [params], [options])");
        assert!(tree.get("custmers").is_none() && !tree.is_empty() && Tree::default().is_empty());
    }

    #[test]
    fn params_and_options_may_be_left_out_and_path_parameters_may_not() {
        let check = |takes: &Takes, expected: &[usize]| {
            assert_eq!((0..6).filter(|count| takes.fits(*count)).collect::<Vec<_>>(), expected);
        };
        check(&takes(&[], true), &[0, 1, 2]);
        check(&takes(&["id"], true), &[1, 2, 3]);
        check(&takes(&["id", "item"], false), &[2, 3]);
    }
}
