//! The verbs of HTTP, and what each means for a call that no operation describes: `x.get(path)` and its like need none.

/// With which verb something is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    /// `x.get(path)`
    Get,
    /// By way of `x.request("HEAD", path)` only.
    Head,
    /// `x.post(path)`
    Post,
    /// `x.put(path)`
    Put,
    /// `x.patch(path)`
    Patch,
    /// `x.delete(path)`
    Delete,
}

/// What a verb means (RFC 9110, 9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meaning {
    /// As it is sent.
    pub(crate) name: &'static str,
    /// It changes nothing, so its answer is not recorded for a rerun.
    pub(crate) is_read: bool,
    /// Made twice it does what it does once, so a try that failed may be followed by another.
    pub(crate) is_idempotent: bool,
    /// A body means something to it.
    pub(crate) has_body: bool,
}

impl Verb {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// What it means.
    pub(crate) fn meaning(self) -> Meaning {
        let (name, is_read, is_idempotent, has_body) = match self {
            Self::Get => ("GET", true, true, false),
            Self::Head => ("HEAD", true, true, false),
            Self::Post => ("POST", false, false, true),
            Self::Put => ("PUT", false, true, true),
            Self::Patch => ("PATCH", false, false, true),
            // A body is allowed, and some APIs want one, but params of an operation go into the query.
            Self::Delete => ("DELETE", false, true, false),
        };
        Meaning { name, is_read, is_idempotent, has_body }
    }

    /// The one that is written so, in capitals or not.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.meaning().name.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_is_known_by_its_name_and_what_reads_is_idempotent() {
        for verb in Verb::ALL {
            let meaning = verb.meaning();
            assert_eq!(Verb::named(&meaning.name.to_lowercase()), Some(verb));
            assert!(!meaning.is_read || meaning.is_idempotent && !meaning.has_body);
        }
        assert_eq!(Verb::named("CONNECT"), None);
        assert!(!Verb::Post.meaning().is_idempotent && !Verb::Patch.meaning().is_idempotent);
    }
}
