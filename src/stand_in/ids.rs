//! Ids that look like a third party's. With one seed they come in the same order each time.

/// Letters that all three of them use in their ids.
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Where ids come from.
pub(super) struct Ids(fastrand::Rng);

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// The prefix and so many letters.
    pub(super) fn next(&mut self, prefix: &str, length: usize) -> String {
        let letters = (0..length).map(|_| char::from(LETTERS[self.0.usize(..LETTERS.len())]));
        prefix.chars().chain(letters).collect()
    }

    /// The prefix and so many digits of base 16.
    pub(super) fn hex(&mut self, prefix: &str, length: usize) -> String {
        let digits = (0..length).map(|_| char::from_digit(self.0.u32(..16), 16).unwrap_or('0'));
        prefix.chars().chain(digits).collect()
    }

    /// A number in 0..1.
    pub(super) fn chance(&mut self) -> f64 {
        self.0.f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_the_same_ids_again() {
        let three = |seed| {
            let mut ids = Ids::new(seed);
            [ids.next("cus_", 14), ids.next("cus_", 14), ids.hex("", 32)]
        };
        assert_eq!(three(1), three(1));
        assert_ne!(three(1), three(2));
        assert_eq!(three(1)[0].len(), 18);
    }
}
