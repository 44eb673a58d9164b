//! What the claims of a token must say (RFC 7519, section 4.1), once its signature is known to be right: whose it is, for whom, and that now is its
//! time. A token of Clerk follows Clerk's "Manual JWT verification": an absent `azp` is no fault, and a pending session is none yet.

use std::time::Duration;

use serde_json::{Map, Value};

use super::jwt::Jwt;
use super::{Caller, Invalid, Refusal, shown};
use crate::clock::Millis;
use crate::config::SignedAuth;

/// Bytes of a user's id (OpenID Connect Core, section 2: `sub`).
const USER_ID_BYTES_MAX: usize = 255;

/// What config asks for.
pub(super) struct Expected {
    issuer: Box<str>,
    /// Empty: whoever it is for.
    audience: Vec<Box<str>>,
    /// Empty: wherever it was made.
    authorized_parties: Vec<Box<str>>,
    leeway: Duration,
    is_clerk: bool,
}

impl Expected {
    pub(super) fn of(signed: &SignedAuth) -> Self {
        Self {
            issuer: signed.issuer.clone(),
            audience: signed.audience.clone(),
            authorized_parties: signed.authorized_parties.clone(),
            leeway: signed.leeway,
            is_clerk: signed.is_clerk,
        }
    }

    /// The caller. That a token has expired is said only of one that is right in all else, so it tells a forger nothing.
    pub(super) fn check(&self, jwt: &Jwt<'_>, now: Millis) -> Result<Caller, Refusal> {
        let claims = &jwt.claims;
        self.check_issuer(claims)?;
        self.check_audience(claims)?;
        self.check_party(claims)?;
        let user_id = user_id(claims).ok_or(Invalid::Subject)?;
        if self.is_clerk && text(claims, "sts") == Some("pending") {
            return Err(Invalid::Pending.into());
        }
        let expires = time(claims, "exp")?.ok_or(Invalid::Time("exp"))?;
        for name in ["nbf", "iat"] {
            if time(claims, name)?.is_some_and(|begins| now.plus(self.leeway) < begins) {
                return Err(Invalid::Early(name).into());
            }
        }
        if now >= expires.plus(self.leeway) {
            return Err(Refusal::Expired);
        }
        Ok(Caller {
            user_id: user_id.into(),
            email: first(claims, &["email"]),
            first_name: first(claims, &["first_name", "firstName", "given_name"]),
            last_name: first(claims, &["last_name", "lastName", "family_name"]),
            claims: jwt.claims_text.clone(),
        })
    }

    fn check_issuer(&self, claims: &Map<String, Value>) -> Result<(), Invalid> {
        let found = text(claims, "iss");
        if found == Some(&*self.issuer) {
            return Ok(());
        }
        let bare = |issuer: &str| issuer.trim_end_matches('/').to_ascii_lowercase();
        let is_near = found.is_some_and(|found| bare(found) == bare(&self.issuer));
        Err(Invalid::Issuer {
            found: found.map_or_else(|| "no text".to_owned(), shown),
            expected: self.issuer.clone(),
            hint: if is_near {
                "; they are compared letter by letter, slash at the end included"
            } else {
                ""
            },
        })
    }

    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), Invalid> {
        if self.audience.is_empty() {
            return Ok(());
        }
        let is_ours = |value: &Value| {
            value.as_str().is_some_and(|name| self.audience.iter().any(|ours| **ours == *name))
        };
        let named = match claims.get("aud") {
            // One that is no text makes the whole no list of names.
            Some(Value::Array(names)) => {
                names.iter().all(Value::is_string) && names.iter().any(is_ours)
            }
            Some(name) => is_ours(name),
            None => false,
        };
        if named { Ok(()) } else { Err(Invalid::Audience) }
    }

    fn check_party(&self, claims: &Map<String, Value>) -> Result<(), Invalid> {
        if self.authorized_parties.is_empty() {
            return Ok(());
        }
        match claims.get("azp") {
            None if self.is_clerk => Ok(()),
            Some(Value::String(party))
                if self.authorized_parties.iter().any(|ours| **ours == **party) =>
            {
                Ok(())
            }
            Some(Value::String(party)) => Err(Invalid::Party(shown(party))),
            Some(_) | None => Err(Invalid::Party("no text".to_owned())),
        }
    }
}

fn text<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c str> {
    claims.get(name)?.as_str()
}

/// The first of these names that holds text.
fn first(claims: &Map<String, Value>, names: &[&str]) -> Option<Box<str>> {
    names.iter().find_map(|name| text(claims, name)).map(Into::into)
}

/// Whole seconds since 1970. A fraction is allowed by the RFC and written by nobody; a negative time is a mistake.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<Millis>, Invalid> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_i64().filter(|seconds| *seconds >= 0).ok_or(Invalid::Time(name))?;
    Ok(Some(Millis(seconds.saturating_mul(1000))))
}

/// What names a user everywhere: in documents, logs and keys.
fn user_id(claims: &Map<String, Value>) -> Option<&str> {
    text(claims, "sub")
        .filter(|id| (1..=USER_ID_BYTES_MAX).contains(&id.len()) && !id.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Millis = Millis(1_700_000_000_000);
    const ISSUER: &str = "https://clerk.example.com";

    fn expected(is_clerk: bool) -> Expected {
        Expected {
            issuer: ISSUER.into(),
            audience: Vec::new(),
            authorized_parties: Vec::new(),
            leeway: Duration::from_secs(5),
            is_clerk,
        }
    }

    /// The good claims with some of them replaced; `null` takes one away.
    fn claims(changes: Value) -> Map<String, Value> {
        let seconds = NOW.0 / 1000;
        let good = json!({ "iss": ISSUER, "sub": "user_1", "exp": seconds + 60, "iat": seconds, "nbf": seconds });
        let (Value::Object(mut claims), Value::Object(changes)) = (good, changes) else { panic!() };
        claims.extend(changes);
        claims.retain(|_, value| !value.is_null());
        claims
    }

    fn check(expected: &Expected, changes: Value) -> Result<Caller, Refusal> {
        let claims = claims(changes);
        let claims_text = Value::Object(claims.clone()).to_string().into();
        let (algorithm, signature) = ("RS256".into(), Vec::new());
        expected
            .check(&Jwt { algorithm, kid: None, signed: b"", signature, claims, claims_text }, NOW)
    }

    fn refused(expected: &Expected, changes: Value) -> Refusal {
        let shown = changes.to_string();
        check(expected, changes).expect_err(&shown)
    }

    #[test]
    fn a7_a_token_expires_after_its_leeway_and_says_when_it_does() {
        let at = |offset: i64| json!({ "exp": NOW.0 / 1000 + offset });
        for alive in [60, 1, 0, -1, -4] {
            check(&expected(true), at(alive)).unwrap();
        }
        for over in [-5, -6, -1_000_000_000] {
            assert_eq!(refused(&expected(true), at(over)), Refusal::Expired, "{over}");
        }
        let strict = Expected { leeway: Duration::ZERO, ..expected(true) };
        assert_eq!(refused(&strict, at(-1)), Refusal::Expired);
        assert_eq!(refused(&strict, at(0)), Refusal::Expired);
        check(&strict, at(1)).unwrap();
        check(&strict, json!({ "exp": i64::MAX })).unwrap();
        let odd =
            [json!("1800000000"), json!(1.8e9), json!(1e300), json!(-1), json!([1]), Value::Null];
        for exp in odd {
            assert_eq!(refused(&strict, json!({ "exp": exp })), Invalid::Time("exp").into());
        }
        // A forger learns nothing of time.
        let both = json!({ "exp": 1, "iss": "https://elsewhere.example" });
        assert!(matches!(refused(&strict, both), Refusal::Invalid(Invalid::Issuer { .. })));
    }

    #[test]
    fn a8_a_token_of_the_future_is_refused_and_one_that_says_no_beginning_is_not() {
        let seconds = NOW.0 / 1000;
        for name in ["nbf", "iat"] {
            let with = |value: Value| {
                let mut changes = Map::new();
                changes.insert(name.to_owned(), value);
                Value::Object(changes)
            };
            check(&expected(true), with(json!(seconds + 5))).unwrap();
            check(&expected(true), with(Value::Null)).unwrap();
            let early = refused(&expected(true), with(json!(seconds + 6)));
            assert!(matches!(early, Refusal::Invalid(Invalid::Early(_))), "{early}");
            let odd = refused(&expected(true), with(json!("0")));
            assert!(matches!(odd, Refusal::Invalid(Invalid::Time(_))), "{odd}");
        }
    }

    #[test]
    fn a9_an_issuer_is_compared_letter_by_letter_and_the_log_hints_at_a_slash() {
        for (iss, hinted) in [
            (json!("https://clerk.example.com/"), true),
            (json!("https://Clerk.example.com"), true),
            (json!("https://clerk.example.com.evil.example"), false),
            (json!("http://clerk.example.com"), false),
            (json!([ISSUER]), false),
            (json!(1), false),
            (Value::Null, false),
        ] {
            let refused = refused(&expected(true), json!({ "iss": iss }));
            assert!(matches!(refused, Refusal::Invalid(Invalid::Issuer { .. })), "{iss}");
            assert_eq!(refused.to_string().contains("letter by letter"), hinted, "{refused}");
        }
    }

    #[test]
    fn a9_an_audience_is_asked_for_where_config_names_one() {
        let ours = Expected { audience: vec!["api".into(), "app".into()], ..expected(false) };
        for aud in [json!("api"), json!("app"), json!(["other", "api"])] {
            check(&ours, json!({ "aud": aud })).unwrap();
        }
        for aud in [
            Value::Null,
            json!("other"),
            json!("API"),
            json!([]),
            json!(["api", 1]),
            json!({ "api": 1 }),
        ] {
            assert_eq!(refused(&ours, json!({ "aud": aud })), Invalid::Audience.into(), "{aud}");
        }
        check(&expected(false), json!({ "aud": "other" })).unwrap();
    }

    #[test]
    fn a9_an_authorized_party_is_one_of_config_and_only_clerk_may_leave_it_out() {
        let parties = || vec!["http://localhost:5173".into()];
        let clerk = Expected { authorized_parties: parties(), ..expected(true) };
        let other = Expected { authorized_parties: parties(), ..expected(false) };
        for ours in [&clerk, &other] {
            check(ours, json!({ "azp": "http://localhost:5173" })).unwrap();
            for azp in [json!("http://localhost:5174"), json!(""), json!(1)] {
                let refused = refused(ours, json!({ "azp": azp }));
                assert!(matches!(refused, Refusal::Invalid(Invalid::Party(_))), "{azp}");
            }
        }
        check(&clerk, json!({})).unwrap();
        assert!(matches!(refused(&other, json!({})), Refusal::Invalid(Invalid::Party(_))));
        check(&expected(true), json!({ "azp": "anything" })).unwrap();
    }

    #[test]
    fn a12_a_subject_names_a_user() {
        for sub in [json!("u"), json!("auth0|5f7c"), json!("ü".repeat(127))] {
            check(&expected(true), json!({ "sub": sub })).unwrap();
        }
        let wrong = [
            Value::Null,
            json!(""),
            json!(1),
            json!("x".repeat(10_000)),
            json!("a\0b"),
            json!("a\nb"),
        ];
        for sub in wrong {
            assert_eq!(refused(&expected(true), json!({ "sub": sub })), Invalid::Subject.into());
        }
    }

    #[test]
    fn names_are_taken_from_clerks_template_or_from_openid_claims() {
        let template = json!({ "email": "a@example.com", "userId": "user_1", "firstName": "Ada", "lastName": "L" });
        let caller = check(&expected(true), template).unwrap();
        assert_eq!(&*caller.user_id, "user_1");
        assert_eq!(caller.email.as_deref(), Some("a@example.com"));
        assert_eq!(
            (caller.first_name.as_deref(), caller.last_name.as_deref()),
            (Some("Ada"), Some("L"))
        );
        assert!(caller.claims.contains("\"userId\":\"user_1\""));
        let openid = json!({ "given_name": "Ada", "family_name": "L", "email": 1 });
        let caller = check(&expected(false), openid).unwrap();
        assert_eq!((caller.first_name.as_deref(), caller.email.as_deref()), (Some("Ada"), None));
    }

    #[test]
    fn a_pending_session_of_clerk_is_not_signed_in() {
        assert_eq!(refused(&expected(true), json!({ "sts": "pending" })), Invalid::Pending.into());
        check(&expected(true), json!({ "sts": "active" })).unwrap();
        check(&expected(false), json!({ "sts": "pending" })).unwrap();
    }
}
