//! Tokens that a team's own programs share with Rhaiway (`kind = "token"`). Each is compared in constant time by its digest, so neither its length
//! nor its beginning can be found out by timing; all of them are tried, so nobody can tell which one is being replaced.

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

use super::Invalid;
use crate::config::SecretSet;

/// The digests of all that are accepted.
pub(super) struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    pub(super) fn new(secrets: &SecretSet) -> Self {
        Self(secrets.set.iter().map(|secret| sha256(secret.expose())).collect())
    }

    /// Nothing is set, and nothing can be right.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn check(&self, token: &str) -> Result<(), Invalid> {
        let presented = sha256(token);
        let known = self
            .0
            .iter()
            .fold(subtle::Choice::from(0), |known, accepted| known | accepted.ct_eq(&presented));
        if bool::from(known) { Ok(()) } else { Err(Invalid::Unknown) }
    }
}

fn sha256(text: &str) -> [u8; 32] {
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn any_of_several_tokens_is_right_and_nothing_else_is() {
        let secret = |value: &str| Secret::new("TOKEN", value.to_owned());
        let set = vec![secret("new-token"), secret("old-token")];
        let tokens = Tokens::new(&SecretSet { set, missing: Vec::new() });
        for right in ["new-token", "old-token"] {
            assert_eq!(tokens.check(right), Ok(()));
        }
        for wrong in ["", "new-toke", "new-token ", "New-token", "new-tokenold-token"] {
            assert_eq!(tokens.check(wrong), Err(Invalid::Unknown), "{wrong:?}");
        }
        assert!(Tokens::new(&SecretSet::default()).is_empty());
    }
}
