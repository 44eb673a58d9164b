//! Nested forms as Stripe takes them (`items[0][price]=p&metadata[key]=v`), read into JSON. Every value stays text: what is a number is the API's to know.

use serde_json::{Map, Value};

/// Fields of one form. Stripe's own bound is its 1 MiB or so of body; no request of ours comes near this.
const FIELDS_MAX: usize = 10_000;
/// Names within names; Stripe's deepest documented parameter has seven.
const DEPTH_MAX: usize = 16;

/// A form that means nothing; the name of the field that shows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadForm(pub(super) String);

/// Reads fields that are decoded already.
pub(super) fn nested<'a>(
    fields: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Value, BadForm> {
    let mut root = Value::Object(Map::new());
    for (count, (name, value)) in fields.enumerate() {
        let bad = || BadForm(name.to_owned());
        let path = path(name).filter(|_| count < FIELDS_MAX).ok_or_else(bad)?;
        insert(&mut root, &path, value).ok_or_else(bad)?;
    }
    Ok(lists(root))
}

/// Reads a body of type `application/x-www-form-urlencoded`.
pub(super) fn read(body: &[u8]) -> Result<Value, BadForm> {
    let fields: Vec<_> = form_urlencoded::parse(body).collect();
    nested(fields.iter().map(|(name, value)| (&**name, &**value)))
}

/// `a[b][]` as `a`, `b` and an empty name.
fn path(name: &str) -> Option<Vec<&str>> {
    let (first, mut rest) = name.split_at(name.find('[').unwrap_or(name.len()));
    let mut path = vec![first];
    while !rest.is_empty() {
        let (part, after) = rest.strip_prefix('[')?.split_once(']')?;
        path.push(part);
        rest = after;
    }
    (!first.is_empty() && path.len() <= DEPTH_MAX).then_some(path)
}

fn insert(node: &mut Value, path: &[&str], value: &str) -> Option<()> {
    let Some((name, rest)) = path.split_first() else {
        *node = Value::from(value);
        return Some(());
    };
    let map = node.as_object_mut()?;
    // `name[]` is the next one of a list.
    let name = if name.is_empty() { map.len().to_string() } else { (*name).to_owned() };
    let empty = || if rest.is_empty() { Value::Null } else { Value::Object(Map::new()) };
    insert(map.entry(name).or_insert_with(empty), rest, value)
}

/// Maps whose names count from 0 are lists; the outermost is none.
fn lists(value: Value) -> Value {
    let Value::Object(map) = value else { return value };
    Value::Object(map.into_iter().map(|(name, value)| (name, list(lists(value)))).collect())
}

fn list(value: Value) -> Value {
    let Value::Object(mut map) = value else { return value };
    let names: Vec<String> = (0..map.len()).map(|number| number.to_string()).collect();
    if map.is_empty() || !names.iter().all(|name| map.contains_key(name)) {
        return Value::Object(map);
    }
    names.iter().filter_map(|name| map.remove(name)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn names_within_names_are_maps_and_numbers_are_lists() {
        let check = |body: &str, expected: Value| {
            assert_eq!(read(body.as_bytes()).unwrap(), expected, "{body}");
        };
        check("", json!({}));
        check("a=1&b=", json!({ "a": "1", "b": "" }));
        check("metadata[order]=6735", json!({ "metadata": { "order": "6735" } }));
        check(
            "items[0][price]=p1&items[0][quantity]=2&items[1][price]=p2",
            json!({ "items": [{ "price": "p1", "quantity": "2" }, { "price": "p2" }] }),
        );
        check(
            "expand[]=customer&expand[]=data.charge",
            json!({ "expand": ["customer", "data.charge"] }),
        );
        check("a%5Bb%5D=c+d%20%26", json!({ "a": { "b": "c d &" } }));
        check("a[10]=x&a[2]=y", json!({ "a": { "10": "x", "2": "y" } }));
        check("0=a", json!({ "0": "a" }));
    }

    #[test]
    fn what_means_nothing_is_refused_by_its_name() {
        let deep = format!("a{}", "[b]".repeat(DEPTH_MAX));
        for name in ["a[b", "a]b[", "[b]", "", "a[b]c", &deep] {
            let body: String =
                form_urlencoded::Serializer::new(String::new()).append_pair(name, "x").finish();
            assert_eq!(
                read(body.as_bytes()),
                if name == "a]b[" { Err(BadForm(name.into())) } else { Err(BadForm(name.into())) }
            );
        }
        assert_eq!(read(b"a=1&a[b]=2"), Err(BadForm("a[b]".into())));
    }

    /// Writes a value as a client does.
    fn write(prefix: &str, value: &Value, fields: &mut Vec<(String, String)>) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let name =
                        if prefix.is_empty() { name.clone() } else { format!("{prefix}[{name}]") };
                    write(&name, value, fields);
                }
            }
            Value::Array(list) => {
                for (number, value) in list.iter().enumerate() {
                    write(&format!("{prefix}[{number}]"), value, fields);
                }
            }
            other => {
                fields.push((prefix.to_owned(), other.as_str().unwrap_or_default().to_owned()))
            }
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let text = "[a-z0-9 =&\\[\\]%]{0,8}".prop_map(Value::from);
        text.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,5}", inner, 1..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_again(value in values()) {
            let whole = json!({ "a": value });
            let mut fields = Vec::new();
            write("", &whole, &mut fields);
            let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
            prop_assert_eq!(read(body.as_bytes()), Ok(whole));
        }

        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            _ = read(&body);
        }
    }
}
