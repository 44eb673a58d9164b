//! The model of documents: what effects come to, all of it or nothing.

use super::*;

impl State {
    pub(super) fn document(&self, key: &DocumentKey) -> (Content, Version) {
        match self.documents.get(key) {
            Some((content, version)) => match content.clone().at(clock::now()) {
                Content::Absent => (Content::Absent, Version(0)),
                content => (content, *version),
            },
            None => (Content::Absent, Version(0)),
        }
    }

    /// All of it or nothing: `None`.
    pub(super) fn apply(
        &mut self,
        effects: &Effects,
        own: Option<i64>,
        max_pending: u64,
    ) -> Result<Option<After>, StoreError> {
        if effects.reads.iter().any(|(key, version)| self.document(key).1 != *version) {
            return Ok(None);
        }
        let before = self.documents.clone();
        for (key, write) in &effects.writes {
            match self.document(key).0.after(write, clock::now()) {
                Ok(None) => {}
                Ok(Some(Content::Absent)) => {
                    self.documents.remove(key);
                }
                Ok(Some(content)) => {
                    self.last_version += 1;
                    self.documents.insert(key.clone(), (content, Version(self.last_version)));
                }
                Err(document::Changed) => {
                    self.documents = before;
                    return Ok(None);
                }
            }
        }
        let ending = u64::from(own.is_some());
        let emitted =
            effects.emits.iter().filter(|emit| matches!(emit, Emit::Event { .. })).count() as u64;
        let waiting = self.pending() + self.scheduled.len() as u64;
        let is_full = emitted > ending && waiting + emitted > 2 * max_pending + ending;
        let after = if is_full { None } else { self.emit(&effects.emits, own) };
        if after.is_none() {
            self.documents = before;
        }
        // A `cancel` that was told otherwise is a conflict, whatever room there is.
        if is_full && self.holds(&effects.emits, own) {
            return Err(StoreError::Full { max_pending });
        }
        Ok(after)
    }
}
