//! Elements into XML text. An element is what `xml::parse` gives, or what a script makes: `name`, and of `attributes`, `text` and `children`
//! those that it has. What a reader would not read back as the same is refused by its place.

use rhai::{Dynamic, EvalAltResult, ImmutableString, Map};

use super::super::named::Named;
use super::{LEVELS_MAX, check_characters, no_character, push_escaped};
use crate::script::builtins::ending::{Ending, Fallible, refused};
use crate::script::value::{Buffer, Full, Kind, kind, to_text};

/// What an element may have.
const KEYS: [&str; 4] = ["name", "attributes", "text", "children"];
/// Characters of a foreign name that an error repeats.
const SHOWN_MAX: usize = 64;

pub(super) fn to_string(element: &Map, options: Named<'_>) -> Fallible<ImmutableString> {
    let mut writer = Writer { text: Buffer::new(usize::MAX), level: 0 };
    if options.flag("declaration", false)? {
        writer.raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")?;
    }
    writer.element(element)?;
    Ok(writer.text.into_text().into())
}

struct Writer {
    text: Buffer,
    level: usize,
}

impl Writer {
    fn element(&mut self, element: &Map) -> Fallible<()> {
        if self.level >= LEVELS_MAX {
            return Err(refused(&format!("elements nested deeper than {LEVELS_MAX}")));
        }
        if let Some(other) = element.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(refused(&format!(
                "an element has `name`, `attributes`, `text` and `children`, and here is `{}`",
                shown(other)
            )));
        }
        let name = element.get("name").and_then(|name| name.read_lock::<ImmutableString>());
        let name = name.ok_or_else(|| refused("an element needs a `name`"))?;
        check_name(&name)?;
        self.raw("<")?;
        self.raw(&name)?;
        self.attributes(element.get("attributes"))?;
        let begin = self.text.len();
        self.raw(">")?;
        self.level += 1;
        self.content(&name, element)?;
        self.level -= 1;
        if self.text.len() == begin + 1 {
            _ = self.text.text_mut().pop();
            return self.raw("/>");
        }
        self.raw("</")?;
        self.raw(&name)?;
        self.raw(">")
    }

    fn attributes(&mut self, attributes: Option<&Dynamic>) -> Fallible<()> {
        let Some(attributes) = attributes.filter(|attributes| !attributes.is_unit()) else {
            return Ok(());
        };
        let attributes = attributes.as_map_ref().map_err(|_| refused("`attributes` is a map"))?;
        for (name, value) in attributes.iter().filter(|(_, value)| !value.is_unit()) {
            check_name(name)?;
            self.raw(" ")?;
            self.raw(name)?;
            self.raw("=\"")?;
            self.value(value, || format!("the attribute `{}`", shown(name)))?;
            self.raw("\"")?;
        }
        Ok(())
    }

    /// Its children; where it has none, its text.
    fn content(&mut self, name: &str, element: &Map) -> Fallible<()> {
        let children = element.get("children").filter(|children| !children.is_unit());
        let children = children
            .map(|children| children.as_array_ref().map_err(|_| refused("`children` is an array")));
        match children.transpose()? {
            Some(children) if !children.is_empty() => {
                children.iter().try_for_each(|child| self.child(name, child))
            }
            _ => match element.get("text") {
                Some(text) => self.value(text, || format!("the text of `{}`", shown(name))),
                None => Ok(()),
            },
        }
    }

    fn child(&mut self, parent: &str, child: &Dynamic) -> Fallible<()> {
        match child.as_map_ref() {
            Ok(element) => self.element(&element),
            Err(_) => self.value(child, || format!("a child of `{}`", shown(parent))),
        }
    }

    /// Text, or what is written as text.
    fn value(&mut self, value: &Dynamic, place: impl Fn() -> String) -> Fallible<()> {
        match kind(value) {
            Kind::Unit => Ok(()),
            Kind::Text => match value.read_lock::<ImmutableString>() {
                Some(text) => self.escaped(&text, place),
                None => Ok(()),
            },
            Kind::Bool | Kind::Int | Kind::Float | Kind::Char => {
                self.escaped(&to_text(value), place)
            }
            Kind::Shared => match value.read_lock::<Dynamic>() {
                Some(inner) => self.value(&inner, place),
                None => Err(refused("a variable that is in use cannot be read")),
            },
            other => Err(refused(&format!("{} cannot be {}", place(), other.words()))),
        }
    }

    fn escaped(&mut self, text: &str, place: impl Fn() -> String) -> Fallible<()> {
        check_characters(text)
            .map_err(|character| refused(&format!("{}: {}", place(), no_character(character))))?;
        push_escaped(&mut self.text, text).map_err(full)
    }

    fn raw(&mut self, text: &str) -> Fallible<()> {
        self.text.push_str(text).map_err(full)
    }
}

fn full(_: Full) -> Box<EvalAltResult> {
    Ending::Memory.error()
}

/// Of an element or an attribute. Stricter than XML in ASCII only.
fn check_name(name: &str) -> Fallible<()> {
    let begins = |c: char| c.is_alphabetic() || c == '_' || c == ':';
    let goes_on = |c: char| c.is_alphanumeric() || "_:-.".contains(c);
    if name.starts_with(begins) && name.chars().all(goes_on) {
        return Ok(());
    }
    Err(refused(&format!("`{}` is no name for an element or an attribute", shown(name))))
}

fn shown(name: &str) -> String {
    name.chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rhai::{Dynamic, Map};

    use super::super::read;
    use super::{Named, to_string};
    use crate::script::builtins::testing::{check, check_deep, run_with};
    use crate::script::value::to_debug_text;

    #[test]
    fn an_element_is_written_with_what_it_has() {
        check("xml::to_string(#{ name: \"a\" })", "\"<a/>\"");
        check(
            r#"xml::to_string(#{ name: "soap:Body", attributes: #{ id: 1, "xml:lang": "en \"x\"", none: () }, children: [
                #{ name: "Price", text: 1.5 }, "a < b & c", #{ name: "ok", text: true }] }, #{ declaration: true })"#,
            r#""<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<soap:Body id=\"1\" xml:lang=\"en &quot;x&quot;\"><Price>1.5</Price>a &lt; b &amp; c<ok>true</ok></soap:Body>""#,
        );
        check(
            "let x = xml::parse(\"<a><b>1</b></a>\"); x.children[0].text = \"2\"; xml::to_string(x)",
            "\"<a><b>2</b></a>\"",
        );
        check(
            "let x = \"t\"; let f = || x; xml::to_string(#{ name: \"a\", text: x })",
            "\"<a>t</a>\"",
        );
    }

    #[test]
    fn what_is_no_element_is_refused_by_its_place() {
        for (element, expected) in [
            ("#{}", "an element needs a `name`"),
            ("#{ name: 1 }", "an element needs a `name`"),
            ("#{ name: \"a b\" }", "`a b` is no name for an element or an attribute"),
            ("#{ name: \"1\" }", "`1` is no name for an element or an attribute"),
            (
                "#{ name: \"a\", attributes: #{ \"x='\": 1 } }",
                "`x='` is no name for an element or an attribute",
            ),
            (
                "#{ name: \"a\", attribute: #{} }",
                "an element has `name`, `attributes`, `text` and `children`, and here is `attribute`",
            ),
            ("#{ name: \"a\", attributes: [] }", "`attributes` is a map"),
            ("#{ name: \"a\", children: \"x\" }", "`children` is an array"),
            ("#{ name: \"a\", children: [[1]] }", "a child of `a` cannot be an array"),
            ("#{ name: \"a\", text: #{} }", "the text of `a` cannot be a map"),
            ("#{ name: \"a\", attributes: #{ x: [] } }", "the attribute `x` cannot be an array"),
            (
                "#{ name: \"a\", text: \"\\x00\" }",
                "the text of `a`: the character U+0000 cannot stand in XML",
            ),
        ] {
            check(&format!("xml::to_string({element})"), &format!("INVALID_ARGUMENT: {expected}"));
        }
    }

    #[test]
    fn s20_writing_ends_at_the_budget_and_at_its_depth() {
        let long = "let s = \"&\"; s.pad(100000, '&'); ";
        assert_eq!(
            run_with(400_000, &format!("{long} xml::to_string(#{{ name: \"a\", text: s }})")),
            "ended: Memory"
        );
        check_deep(
            1_000,
            false,
            "xml::to_string(#{ name: \"a\", children: v })",
            "INVALID_ARGUMENT: a child of `a` cannot be an array",
        );
        let deep = "let x = #{ name: \"a\" }; for i in 0..LEVELS { x = #{ name: \"a\", children: [x] }; } xml::to_string(x).len";
        check(&deep.replace("LEVELS", "126"), "886");
        check(&deep.replace("LEVELS", "127"), "INVALID_ARGUMENT: elements nested deeper than 127");
    }

    /// Elements as `xml::parse` gives them.
    fn element() -> impl Strategy<Value = Map> {
        let text = "([a-zé&<>\"'\\]][a-zé&<>\"' \t\n]{0,4}[a-z;])?";
        let attributes =
            prop::collection::btree_map("[a-z]{1,3}(:[a-z])?", "[a-z&<>\"' \t\n\r]{0,6}", 0..3);
        let map = |name: String, attributes: Map, text: String, children: Vec<Dynamic>| {
            let mut map = Map::new();
            map.insert("name".into(), name.into());
            map.insert("attributes".into(), attributes.into());
            map.insert("text".into(), text.into());
            map.insert("children".into(), children.into());
            map
        };
        let attributes = attributes.prop_map(|all| {
            all.into_iter().map(|(name, value)| (name.into(), value.into())).collect::<Map>()
        });
        let leaf = ("[a-z]{1,3}", attributes.clone(), text)
            .prop_map(move |(name, attributes, text)| map(name, attributes, text, Vec::new()));
        leaf.prop_recursive(4, 24, 4, move |inner| {
            ("[a-z]{1,3}(:[a-z])?", attributes.clone(), prop::collection::vec(inner, 1..4))
                .prop_map(move |(name, attributes, children)| {
                    map(
                        name,
                        attributes,
                        String::new(),
                        children.into_iter().map(Dynamic::from).collect(),
                    )
                })
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(element in element()) {
            let text = to_string(&element, Named::NONE).unwrap();
            let read = read::parse(&text.clone().into()).unwrap();
            prop_assert_eq!(to_debug_text(&read), to_debug_text(&element.into()), "{}", text);
        }

        #[test]
        fn no_text_brings_the_reader_down(text in "[<>/a=&;'\"!\\[\\]?# -]{0,24}") {
            if let Ok(read) = read::parse(&text.into()) {
                let map: Map = read.cast();
                let written = to_string(&map, Named::NONE);
                if let Ok(written) = written {
                    let again = read::parse(&written.into()).unwrap();
                    prop_assert_eq!(to_debug_text(&again), to_debug_text(&map.into()));
                }
            }
        }
    }
}
