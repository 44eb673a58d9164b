//! `rate_limit` of routes: how often one caller may ask, over all workers. Counts are kept across reloads as long as the rate stays what it was; they
//! live in memory, so a restart begins anew.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::answer::Problem;
use crate::clock;
use crate::rate::Keyed;
use crate::script::handler::Method;
use crate::units::Rate;

/// The limiters of all routes that have a rate.
#[derive(Default)]
pub(crate) struct Limits {
    /// By method and path, which one route of a generation has. Swapped as a whole, so that a request takes no lock to find its own.
    routes: ArcSwap<HashMap<Method, Paths>>,
}

type Paths = HashMap<Box<str>, Arc<Keyed<Caller>>>;

/// Whom a request is counted for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Caller {
    /// An address, or a network that one customer has.
    Address(IpAddr),
    /// A user, wherever they are.
    User(Box<str>),
}

impl Caller {
    /// The one place that decides who a caller is: where a request proves its user, that user goes before the address.
    pub(super) fn of(user: Option<&str>, remote: IpAddr) -> Self {
        if let Some(user) = user {
            return Self::User(user.into());
        }
        match remote.to_canonical() {
            IpAddr::V4(address) => Self::Address(address.into()),
            // Who has one address of IPv6 has 2^64 of them (RFC 6177): all of those are one caller.
            IpAddr::V6(address) => {
                Self::Address(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into())
            }
        }
    }
}

impl Limits {
    /// Counts a request, or says when the caller may come again.
    pub(super) fn admit(
        &self,
        method: Method,
        path: &str,
        rates: &Arc<[Rate]>,
        caller: Caller,
    ) -> Result<(), Problem> {
        let now = clock::instant();
        let limiter = self.limiter(method, path, rates);
        limiter.admit(caller, now).map_err(|at| {
            let left = at.saturating_duration_since(now);
            // A part of a second is a second to wait: who comes too early is refused again.
            let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            Problem::RateLimited { after_s: u32::try_from(seconds).unwrap_or(u32::MAX) }
        })
    }

    fn limiter(&self, method: Method, path: &str, rates: &Arc<[Rate]>) -> Arc<Keyed<Caller>> {
        let find = |routes: &HashMap<Method, Paths>| {
            let found = routes.get(&method)?.get(path)?;
            (found.rates() == &**rates).then(|| Arc::clone(found))
        };
        if let Some(found) = find(&self.routes.load()) {
            return found;
        }
        let made = Arc::new(Keyed::new(Arc::clone(rates)));
        let mut used = Arc::clone(&made);
        self.routes.rcu(|routes| {
            // Another worker may have been quicker.
            if let Some(found) = find(routes) {
                used = found;
                return Arc::clone(routes);
            }
            used = Arc::clone(&made);
            let mut routes = HashMap::clone(routes);
            let now = clock::instant();
            // Routes that are gone leave nothing behind once their callers rest.
            routes.values_mut().for_each(|paths| paths.retain(|_, known| !known.is_idle(now)));
            routes.entry(method).or_default().insert(path.into(), Arc::clone(&made));
            Arc::new(routes)
        });
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::parse_rate;

    fn rates(text: &str) -> Arc<[Rate]> {
        [parse_rate(text).unwrap()].into()
    }

    fn caller(address: &str) -> Caller {
        Caller::of(None, address.parse().unwrap())
    }

    #[test]
    fn each_route_and_each_caller_is_counted_alone() {
        let limits = Limits::default();
        let admit = |method, path, address| {
            limits.admit(method, path, &rates("1/h"), caller(address)).is_ok()
        };
        assert!(admit(Method::Get, "/a", "10.0.0.1"));
        assert!(!admit(Method::Get, "/a", "10.0.0.1"));
        assert!(!admit(Method::Get, "/a", "::ffff:10.0.0.1"), "the same, written as IPv6");
        assert!(admit(Method::Get, "/a", "10.0.0.2"));
        assert!(admit(Method::Post, "/a", "10.0.0.1"));
        assert!(admit(Method::Get, "/b", "10.0.0.1"));
    }

    #[test]
    fn one_network_of_ipv6_is_one_caller() {
        assert_eq!(caller("2001:db8::1"), caller("2001:db8::ffff:0:0:2"));
        assert_ne!(caller("2001:db8::1"), caller("2001:db8:0:1::1"));
    }

    #[test]
    fn counts_are_kept_while_the_rate_is_the_same_and_begin_anew_when_it_changes() {
        let limits = Limits::default();
        let admit = |text| limits.admit(Method::Get, "/a", &rates(text), caller("10.0.0.1"));
        assert!(admit("1/h").is_ok());
        assert_eq!(admit("1/h"), Err(Problem::RateLimited { after_s: 3_600 }));
        assert!(admit("2/h").is_ok());
        assert!(admit("2/h").is_ok() && admit("2/h").is_err());
    }

    #[test]
    fn routes_that_are_gone_are_forgotten() {
        let limits = Limits::default();
        for index in 0..10 {
            let path = format!("/{index}");
            assert!(limits.limiter(Method::Get, &path, &rates("1/s")).is_idle(clock::instant()));
        }
        let kept: usize = limits.routes.load().values().map(HashMap::len).sum();
        assert_eq!(kept, 1);
    }
}
