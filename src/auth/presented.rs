//! What a request presents to say who calls: a bearer token (RFC 6750, section 2.1), or Clerk's session cookie. Never the query, which ends in
//! logs and histories. A header that presents a token wins over a cookie.

use super::{Invalid, Refusal};

/// Bytes of a token. One with the groups of a large directory has some 8 KiB.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// The cookie in which Clerk keeps the session token of pages of the same site ("Manual JWT verification" of Clerk's documentation).
const SESSION_COOKIE: &str = "__session";

/// The parts of a request's head that count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Presented<'a> {
    /// `authorization`, of which a request has one.
    pub(crate) authorization: Option<&'a [u8]>,
    /// Each `cookie` line.
    pub(crate) cookies: Vec<&'a [u8]>,
}

impl<'a> Presented<'a> {
    /// The token of the header; `None`: the header is absent or of another scheme. `Bearer` alone presents nothing, and no cookie stands in for it.
    pub(super) fn bearer(&self) -> Result<Option<&'a str>, Refusal> {
        let Some(value) = self.authorization else { return Ok(None) };
        let value = value.trim_ascii();
        let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
        let (scheme, rest) = value.split_at(end);
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return Ok(None);
        }
        match rest.trim_ascii() {
            b"" => Err(Refusal::Missing),
            token => text(token).map(Some),
        }
    }

    /// The token of the session cookie; the first, as the more specific path comes first (RFC 6265, section 5.4).
    pub(super) fn session(&self) -> Option<&'a str> {
        let pairs = self.cookies.iter().flat_map(|line| line.split(|byte| *byte == b';'));
        let value = pairs
            .map(<[u8]>::trim_ascii)
            .find_map(|pair| pair.strip_prefix(SESSION_COOKIE.as_bytes())?.strip_prefix(b"="))?;
        text(value).ok().filter(|token| !token.is_empty())
    }
}

/// A token as text, of a size that is worth reading.
fn text(token: &[u8]) -> Result<&str, Refusal> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Invalid::Form("it is longer than any token").into());
    }
    let is_plain = token.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(token).ok().filter(|_| is_plain);
    text.ok_or_else(|| Invalid::Form("it has characters that no token has").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presented<'a>(authorization: &'a str, cookies: &[&'a str]) -> Presented<'a> {
        Presented {
            authorization: Some(authorization.as_bytes()).filter(|value| !value.is_empty()),
            cookies: cookies.iter().map(|line| line.as_bytes()).collect(),
        }
    }

    #[test]
    fn a17_the_scheme_is_of_any_case_and_what_is_no_bearer_presents_nothing() {
        let check = |value: &str, expected: Result<Option<&str>, Refusal>| {
            assert_eq!(presented(value, &[]).bearer(), expected, "{value:?}");
        };
        check("Bearer x", Ok(Some("x")));
        check("bearer x", Ok(Some("x")));
        check("BEARER x", Ok(Some("x")));
        check("Bearer  x", Ok(Some("x")));
        check("Bearer x  ", Ok(Some("x")));
        check("Bearer", Err(Refusal::Missing));
        check("Bearer ", Err(Refusal::Missing));
        check("", Ok(None));
        check("Basic x", Ok(None));
        check("Bearerx", Ok(None));
        check("x", Ok(None));
        for odd in ["Bearer a b", "Bearer a\tb", "Bearer ä"] {
            assert!(matches!(presented(odd, &[]).bearer(), Err(Refusal::Invalid(_))), "{odd}");
        }
    }

    #[test]
    fn a10_a_token_that_is_too_long_is_not_looked_at() {
        let longest = format!("Bearer {}", "a".repeat(TOKEN_BYTES_MAX));
        assert!(presented(&longest, &[]).bearer().unwrap().is_some());
        let refused = presented(&format!("{longest}a"), &[]).bearer().unwrap_err();
        assert_eq!(refused, Invalid::Form("it is longer than any token").into());
    }

    #[test]
    fn a17_a_session_cookie_is_found_by_its_whole_name() {
        let check = |lines: &[&str], expected: Option<&str>| {
            assert_eq!(presented("", lines).session(), expected, "{lines:?}");
        };
        check(&["__session=x"], Some("x"));
        check(&["a=b; __session=x; c=d"], Some("x"));
        check(&["a=b", "__session=x"], Some("x"));
        check(&["__session=x; __session=y"], Some("x"));
        check(&["__session="], None);
        check(&["__session_abc=x", "x__session=y", "__Session=z"], None);
        check(&["__session"], None);
        check(&[], None);
    }
}
