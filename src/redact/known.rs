//! The secrets that this process holds. One is known as long as somebody keeps it, and a while longer, since a line that names it may still be on
//! its way. Looking takes no lock; the search is built anew by whoever first looks after a change.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::Redactor;

/// Secrets that nobody keeps any more and that are still taken out: those of a few reloads, or an hour of tokens.
const GONE_MAX: usize = 64;

/// The secrets, and how many keep each.
#[derive(Default)]
struct Known {
    kept: BTreeMap<Arc<str>, usize>,
    /// The newest last.
    gone: VecDeque<Arc<str>>,
}

/// The search, and of which version.
struct Built {
    version: u64,
    redactor: Arc<Redactor>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { kept: BTreeMap::new(), gone: VecDeque::new() });
/// Counts the changes of `KNOWN`; changed only while that is locked.
static VERSION: AtomicU64 = AtomicU64::new(0);
static CURRENT: LazyLock<ArcSwap<Built>> = LazyLock::new(|| {
    let redactor = Arc::new(Redactor::new(std::iter::empty()));
    ArcSwap::from_pointee(Built { version: 0, redactor })
});

/// As long as this lives, the secret is taken out of whatever leaves the process.
pub(crate) struct Kept(Arc<str>);

/// Makes a secret known.
pub(crate) fn keep(value: &str) -> Kept {
    let mut known = known();
    let (value, is_new) = known.keep(value);
    if is_new {
        changed(&known);
    }
    Kept(value)
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut known = known();
        if known.let_go(&self.0) {
            changed(&known);
        }
    }
}

impl Known {
    /// The value as it is shared, and whether it is new to the search.
    fn keep(&mut self, value: &str) -> (Arc<str>, bool) {
        if let Some((value, count)) = self.kept.get_key_value(value) {
            let (value, more) = (Arc::clone(value), count + 1);
            self.kept.insert(Arc::clone(&value), more);
            return (value, false);
        }
        let value: Arc<str> = value.into();
        let gone = self.gone.len();
        self.gone.retain(|gone| *gone != value);
        self.kept.insert(Arc::clone(&value), 1);
        (value, gone == self.gone.len())
    }

    /// Whether something is out of the search by it.
    fn let_go(&mut self, value: &Arc<str>) -> bool {
        match self.kept.get_mut(value) {
            Some(1) | None => {
                self.kept.remove(value);
                self.gone.push_back(Arc::clone(value));
                self.gone.len() > GONE_MAX && self.gone.pop_front().is_some()
            }
            Some(count) => {
                *count -= 1;
                false
            }
        }
    }

    fn redactor(&self) -> Redactor {
        Redactor::new(self.kept.keys().chain(&self.gone).map(|value| &**value))
    }
}

/// The search for all secrets that are known now.
pub(crate) fn current() -> Arc<Redactor> {
    let built = CURRENT.load();
    if built.version == VERSION.load(Ordering::Acquire) {
        return Arc::clone(&built.redactor);
    }
    let known = known();
    let redactor = Arc::new(known.redactor());
    let version = VERSION.load(Ordering::Acquire);
    CURRENT.store(Arc::new(Built { version, redactor: Arc::clone(&redactor) }));
    redactor
}

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// To be told while they are locked.
fn changed(_: &Known) {
    VERSION.fetch_add(1, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x9_a_secret_is_known_as_long_as_one_keeps_it_and_a_while_longer() {
        let mut known = Known::default();
        let text = "a canary-81 in a line";
        let check = |known: &Known, expected| {
            assert_eq!(known.redactor().text(text), expected);
        };
        check(&known, text);
        let (value, is_new) = known.keep("canary-81");
        assert!(is_new && !known.keep("canary-81").1);
        for _ in 0..2 {
            assert!(!known.let_go(&value));
            check(&known, "a [secret] in a line");
        }
        assert!(!known.keep("canary-81").1, "it was still in the search");
        assert!(!known.let_go(&value));
        for n in 0..GONE_MAX {
            let (other, _) = known.keep(&format!("another-{n}"));
            assert_eq!(known.let_go(&other), n == GONE_MAX - 1);
        }
        check(&known, text);
    }

    #[test]
    fn what_is_kept_is_found_at_once() {
        let kept = keep("canary-kept-at-once");
        assert_eq!(current().text("canary-kept-at-once"), "[secret]");
        drop(kept);
    }
}
