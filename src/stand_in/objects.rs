//! Objects of one kind, as JSON, in the order in which they were made. They are bounded: past the bound the oldest is forgotten, as if it had never been.

use serde_json::Value;

/// Objects of one kind. A test makes tens; a demo that runs all day must not grow.
const OBJECTS_MAX: usize = 1_000;

/// Objects of one kind; each has an `id`.
#[derive(Default)]
pub(super) struct Objects(Vec<Value>);

impl Objects {
    /// Keeps one. It is the newest.
    pub(super) fn insert(&mut self, object: Value) {
        if self.0.len() >= OBJECTS_MAX {
            self.0.remove(0);
        }
        self.0.push(object);
    }

    pub(super) fn get(&self, id: &str) -> Option<&Value> {
        self.0.iter().find(|object| object["id"] == id)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Value> {
        self.0.iter_mut().find(|object| object["id"] == id)
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Value> {
        let position = self.0.iter().position(|object| object["id"] == id)?;
        Some(self.0.remove(position))
    }

    /// As all three of them list.
    pub(super) fn newest_first(&self) -> impl DoubleEndedIterator<Item = &Value> {
        self.0.iter().rev()
    }

    /// Forgets those that are not wanted any more.
    pub(super) fn retain(&mut self, wanted: impl FnMut(&Value) -> bool) {
        self.0.retain(wanted);
    }
}

/// A page of what is listed, and whether there is more.
pub(super) struct Page<'a> {
    pub(super) items: Vec<&'a Value>,
    pub(super) has_more: bool,
}

/// The cursor names an object that is not there.
#[derive(Debug)]
pub(super) struct UnknownCursor;

/// The page after the object with the id `after`, of a list in the order in which it is shown.
pub(super) fn page_after<'a>(
    mut all: impl Iterator<Item = &'a Value>,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<'a>, UnknownCursor> {
    if let Some(after) = after {
        all.by_ref().find(|object| object["id"] == after).ok_or(UnknownCursor)?;
    }
    let items: Vec<&Value> = all.by_ref().take(limit).collect();
    Ok(Page { items, has_more: all.next().is_some() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pages_hold_each_object_once_and_say_when_they_are_the_last() {
        let mut objects = Objects::default();
        for number in 0..5 {
            objects.insert(json!({ "id": format!("o{number}") }));
        }
        let ids = |page: &Page<'_>| page.items.iter().map(|item| item["id"].to_string()).collect();
        let page = page_after(objects.newest_first(), None, 3).unwrap();
        let first: Vec<String> = ids(&page);
        assert_eq!((first.join(" "), page.has_more), (r#""o4" "o3" "o2""#.to_owned(), true));
        let page = page_after(objects.newest_first(), Some("o2"), 3).unwrap();
        let second: Vec<String> = ids(&page);
        assert_eq!((second.join(" "), page.has_more), (r#""o1" "o0""#.to_owned(), false));
        assert!(page_after(objects.newest_first(), Some("o9"), 3).is_err());
    }

    #[test]
    fn past_the_bound_the_oldest_is_forgotten() {
        let mut objects = Objects::default();
        for number in 0..=OBJECTS_MAX {
            objects.insert(json!({ "id": number.to_string() }));
        }
        assert!(objects.get("0").is_none() && objects.get("1").is_some());
        assert_eq!(objects.newest_first().count(), OBJECTS_MAX);
    }
}
