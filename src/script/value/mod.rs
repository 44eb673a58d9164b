//! Rhai values and plain data: JSON in and out, text for people, equality, filters. All of it is bounded in depth and bytes and
//! knows what is no data (functions, timestamps, NaN), so that no value of a script can overflow a stack or leave its coroutine
//! half understood.

mod buffer;
mod equal;
mod error;
pub(crate) mod filter;
mod kind;
mod print;
mod read;
pub(in crate::script) mod unshare;
mod write;

pub(crate) use buffer::{Buffer, Full, build};
pub(crate) use equal::deep_equal;
use error::shown;
pub(crate) use error::{Reason, ValueError};
pub(in crate::script) use kind::{Kind, kind};
pub(crate) use print::{to_debug_text, to_text};
pub(crate) use read::{from_json, from_json_parts};
pub(crate) use write::{to_json, to_json_pretty, to_plain};

/// How deep JSON may be nested: what serde_json reads too.
pub(crate) const LEVELS_MAX: usize = 127;

/// What one conversion may come to, beside the script's own memory and `LEVELS_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Of JSON text, read or written.
    pub(crate) bytes: usize,
}

impl Limits {
    /// Only the script's memory bounds it.
    pub(crate) const NONE: Self = Self { bytes: usize::MAX };
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;
    use rhai::{Array, Dynamic, FnPtr, Map};
    use serde_json::Value;

    use super::*;
    use crate::script::builtins::ending::with_room;

    /// Runs `work` on a stack as deep as a coroutine's: dropping a deep value recurses.
    fn deep_stack(work: impl FnOnce() + Send + 'static) {
        thread::Builder::new().stack_size(512 << 20).spawn(work).unwrap().join().unwrap();
    }

    fn nested(levels: usize) -> Dynamic {
        (0..levels).fold(Dynamic::UNIT, |inner, _| vec![inner].into())
    }

    fn map_of(key: &str, value: impl Into<Dynamic>) -> Dynamic {
        let mut map = Map::new();
        map.insert(key.into(), value.into());
        map.into()
    }

    fn written(value: &Dynamic) -> String {
        to_json(value, Limits::NONE).unwrap_or_else(|error| error.to_string())
    }

    fn check(value: impl Into<Dynamic>, expected: &str) {
        assert_eq!(written(&value.into()), expected);
    }

    #[test]
    fn each_kind_of_value_becomes_its_kind_of_json() {
        check((), "null");
        check(true, "true");
        check(i64::MIN, "-9223372036854775808");
        check(1.0, "1.0");
        check(1e300, "1e300");
        check(0.1, "0.1");
        check('é', "\"é\"");
        check("a\"\\\u{8}\u{c}\n\r\t\u{0}\u{1f}é", "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001fé\"");
        check(Dynamic::from_blob(b"hello".to_vec()), "\"aGVsbG8=\"");
        check(map_of("a b", vec![Dynamic::from(1_i64), Dynamic::UNIT]), "{\"a b\":[1,null]}");
        check(Dynamic::from_array(vec![]), "[]");
        check(Dynamic::from(5_i64).into_shared(), "5");
    }

    #[test]
    fn pretty_json_has_a_line_for_each_item() {
        let value = map_of("a", vec![Dynamic::from(1_i64), map_of("b", ())]);
        let expected = "{\n  \"a\": [\n    1,\n    {\n      \"b\": null\n    }\n  ]\n}";
        assert_eq!(to_json_pretty(&value, Limits::NONE).unwrap(), expected);
        assert_eq!(to_json_pretty(&Dynamic::from_array(vec![]), Limits::NONE).unwrap(), "[]");
    }

    #[test]
    fn s40_what_cannot_be_json_is_named_with_its_place() {
        let inside =
            |value: Dynamic| map_of("items", vec![1_i64.into(), map_of("callback", value)]);
        let function = || Dynamic::from(FnPtr::new("f").unwrap());
        check(function(), "a function cannot be JSON");
        check(inside(function()), "`items[1].callback`: a function cannot be JSON");
        check(inside(f64::NAN.into()), "`items[1].callback`: NaN cannot be JSON");
        check(inside(f64::NEG_INFINITY.into()), "`items[1].callback`: infinity cannot be JSON");
        check(Dynamic::from(crate::clock::instant()), "a timestamp cannot be JSON");
        check(Dynamic::from(0_i64..5), "a range cannot be JSON");
        check(Dynamic::from(7_u8), "a value of type `u8` cannot be JSON");
        check(map_of("a.b", f64::NAN), "`[\"a.b\"]`: NaN cannot be JSON");
    }

    #[test]
    fn json_ends_at_its_bounds() {
        let limits = Limits { bytes: 4 };
        assert_eq!(to_json(&"ab".into(), limits).unwrap(), "\"ab\"");
        let error = to_json(&"abc".into(), limits).unwrap_err();
        assert_eq!(error.to_string(), "more than 4 bytes of JSON");
        deep_stack(|| {
            assert!(to_json(&nested(127), Limits::NONE).is_ok());
            for levels in [128, 100_000] {
                let error = to_json(&nested(levels), Limits::NONE).unwrap_err();
                assert_eq!(error.reason, Reason::TooDeep(127));
            }
        });
    }

    #[test]
    fn s20_escapes_are_counted_before_they_are_written() {
        let text = Dynamic::from("\0".repeat(1_000_000));
        let error = with_room(5_999_999, || to_json(&text, Limits::NONE)).unwrap_err();
        assert_eq!(error.reason, Reason::Memory);
        let json = with_room(6_000_100, || to_json(&text, Limits::NONE)).unwrap();
        assert!(json.len() == 6_000_002 && json.capacity() < 6_000_200);
    }

    #[test]
    fn s8_text_is_cut_at_its_depth_and_length() {
        deep_stack(|| {
            let text = to_text(&nested(100_000));
            assert_eq!(text, format!("{}[…]{}", "[".repeat(128), "]".repeat(128)));
            let maps = (0..100_000).fold(Dynamic::UNIT, |inner, _| map_of("a", inner));
            assert!(to_text(&maps).contains("#{…}") && to_text(&maps).len() < 2_000);
        });
        let long = to_text(&vec![Dynamic::from("\0é".repeat(1_000_000))].into());
        assert!(long.ends_with('…') && (1024 * 1024 - 8..=1024 * 1024 + 3).contains(&long.len()));
    }

    #[test]
    fn s7_equality_ends_at_128_levels() {
        assert_eq!(deep_equal(&nested(128), &nested(128)), Ok(true));
        deep_stack(|| {
            let error = deep_equal(&nested(20_000), &nested(20_000)).unwrap_err();
            assert_eq!(error.reason.to_string(), "nested deeper than 128");
        });
    }

    #[test]
    fn s13_a_cycle_is_bounded_in_every_conversion() {
        let shared = Dynamic::from_map(Map::new()).into_shared();
        let mut function = FnPtr::new("f").unwrap();
        function.add_curry(shared.clone());
        shared.clone().as_map_mut().unwrap().insert("f".into(), function.into());
        assert_eq!(written(&shared), "`f`: a function cannot be JSON");
        assert_eq!(to_text(&shared), "#{\"f\": Fn(f)}");
        let error = deep_equal(&shared, &shared).unwrap_err();
        assert_eq!(error.to_string(), "`f`: a function cannot be compared");
        shared.clone().as_map_mut().unwrap().clear();
    }

    #[test]
    fn a_variable_that_is_in_use_is_an_error_and_no_panic() {
        let mut shared = Dynamic::from(1_i64).into_shared();
        let array = Dynamic::from_array(vec![shared.clone()]);
        let guard = shared.write_lock::<i64>();
        assert!(matches!(to_json(&array, Limits::NONE).unwrap_err().reason, Reason::InUse));
        assert!(matches!(deep_equal(&array, &array).unwrap_err().reason, Reason::InUse));
        assert_eq!(to_text(&array), "[<in use>]");
        drop(guard);
    }

    #[test]
    fn scalars_are_equal_as_rhai_s_own_operators_say() {
        let engine = crate::script::builtins::testing::engine();
        let values = [
            "()",
            "true",
            "1",
            "2",
            "1.0",
            "1.0000000000000002",
            "0.0",
            "-0.0",
            "\"a\"",
            "'a'",
            "\"ab\"",
            "0..5",
            "[1]",
            "#{}",
            "9007199254740993",
        ];
        for left in values {
            for right in values {
                let script = format!("[{left} == {right}, [{left}] == [{right}], {left}, {right}]");
                let result = engine.eval::<Array>(&script).unwrap();
                let equal = result[0].as_bool().unwrap();
                assert_eq!(result[1].as_bool().unwrap(), equal, "{script}");
                assert_eq!(deep_equal(&result[2], &result[3]), Ok(equal), "{script}");
            }
        }
    }

    /// JSON without pairs of numbers that are equal by value but not by kind.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1000_i32..1000).prop_map(|n| Value::from(f64::from(n) + 0.5)),
            ".{0,30}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(".{0,8}", inner, 0..8)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_read_and_written_is_the_same_json(value in json()) {
            let read = from_json(&value.to_string(), Limits::NONE).unwrap();
            let compact = to_json(&read, Limits::NONE).unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&compact).unwrap(), value.clone());
            let pretty = to_json_pretty(&read, Limits::NONE).unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&pretty).unwrap(), value.clone());
            prop_assert_eq!(to_plain(&read).unwrap(), value);
            prop_assert!(!to_text(&read).ends_with('…'));
        }

        #[test]
        fn values_are_equal_as_their_json_is(left in json(), right in json()) {
            let read = |value: &Value| from_json(&value.to_string(), Limits::NONE).unwrap();
            prop_assert_eq!(deep_equal(&read(&left), &read(&right)).unwrap(), left == right);
            prop_assert!(deep_equal(&read(&left), &read(&left)).unwrap());
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[\\[\\]{},:\"0-9a-z\\\\ .eE+-]{0,40}") {
            let ours = from_json(&text, Limits::NONE).is_ok();
            prop_assert_eq!(ours, serde_json::from_str::<Value>(&text).is_ok());
        }
    }
}
