//! `csv::…`: tables as RFC 4180 has them. Reading takes any of the usual line ends and a byte order mark, and refuses with its line what
//! would silently shift or swallow fields; writing quotes what must be quoted, and nothing else.

use std::borrow::Cow;

use rhai::{Array, Dynamic, EvalAltResult, ImmutableString, Map, Module};

use super::named::{Named, wrong};
use super::{Signature, with_bytes};
use crate::script::builtins::ending::{Ending, Fallible, refused, reserve, thrown};
use crate::script::builtins::set;
use crate::script::value::{Buffer, Full, Kind, kind, to_text};

pub(super) const SIGNATURES: [Signature; 2] = [
    Signature {
        name: "csv::parse",
        parameters: "text, [options]",
        returns: "array",
        does: "Reads rows as maps by the names in the first line, or as arrays with `header: false`; every field is a string",
    },
    Signature {
        name: "csv::to_string",
        parameters: "rows, [options]",
        returns: "string",
        does: "Writes an array of maps, with their names in the first line, or of arrays",
    },
];

/// What a field costs beside its text, as a string in a map.
const FIELD_BYTES: usize = 120;
/// What a row costs beside its fields: an array of it, or the first node of a map.
const ROW_BYTES: usize = 600;
/// Characters of a foreign name that an error repeats.
const SHOWN_MAX: usize = 64;

pub(super) fn module() -> Module {
    let mut module = Module::new();
    set(&mut module, "parse", |text: Dynamic| parse(&text, Named::NONE));
    set(&mut module, "parse", |text: Dynamic, options: Map| {
        parse(&text, Named::of(&options, &["header", "delimiter"])?)
    });
    set(&mut module, "to_string", |rows: &mut Array| write(rows, Named::NONE));
    set(&mut module, "to_string", |rows: &mut Array, options: Map| {
        write(rows, Named::of(&options, &["columns", "delimiter"])?)
    });
    module
}

fn parse(text: &Dynamic, options: Named<'_>) -> Fallible<Array> {
    let (has_header, delimiter) = (options.flag("header", true)?, delimiter(options)?);
    with_bytes(text, |bytes| {
        let text = str::from_utf8(bytes).map_err(|error| {
            let line = lines(&bytes[..error.valid_up_to()]) + 1;
            invalid(line, "it is not UTF-8 text")
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader = Reader { rest: text, delimiter, line: 1 };
        if has_header { read_maps(&mut reader) } else { read_arrays(&mut reader) }
    })?
}

fn read_arrays(reader: &mut Reader<'_>) -> Fallible<Array> {
    let mut rows = Array::new();
    while reader.next_row()? {
        let mut fields = Array::new();
        reader.fields(|field| push(&mut fields, field.into_owned().into()))?;
        push(&mut rows, fields.into())?;
    }
    Ok(rows)
}

fn read_maps(reader: &mut Reader<'_>) -> Fallible<Array> {
    let mut rows = Array::new();
    if !reader.next_row()? {
        return Ok(rows);
    }
    let names = read_names(reader)?;
    while reader.next_row()? {
        let (line, mut row, mut count) = (reader.line, Map::new(), 0);
        reader.fields(|field| {
            if let Some(name) = names.get(count) {
                reserve(name.len())?;
                row.insert(name.as_str().into(), field.into_owned().into());
            }
            count += 1;
            Ok(())
        })?;
        if count != names.len() {
            let words =
                format!("the first line names {} fields, and here are {count}", names.len());
            return Err(invalid(line, &words));
        }
        push(&mut rows, row.into())?;
    }
    Ok(rows)
}

fn read_names(reader: &mut Reader<'_>) -> Fallible<Vec<String>> {
    let line = reader.line;
    let mut names = Vec::new();
    reader.fields(|name| {
        reserve(2 * size_of::<String>() * names.len())?;
        names.push(name.into_owned());
        Ok(())
    })?;
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            let name: String = pair[0].chars().take(SHOWN_MAX).collect();
            Err(invalid(line, &format!("`{name}` is the name of two columns")))
        }
        None => Ok(names),
    }
}

/// Appends to an array that doubles within the script's memory.
fn push(array: &mut Array, value: Dynamic) -> Fallible<()> {
    if array.len() == array.capacity() {
        reserve(2 * size_of::<Dynamic>() * array.capacity())?;
    }
    array.push(value);
    Ok(())
}

/// What is still to be read, and the line on which it begins.
struct Reader<'a> {
    rest: &'a str,
    delimiter: char,
    line: usize,
}

impl<'a> Reader<'a> {
    /// Goes to the next line that is not empty; false at the end.
    fn next_row(&mut self) -> Fallible<bool> {
        while self.end_of_line() {}
        reserve(ROW_BYTES)?;
        Ok(!self.rest.is_empty())
    }

    /// Hands over each field of a row, and takes the line's end.
    fn fields(&mut self, mut take: impl FnMut(Cow<'a, str>) -> Fallible<()>) -> Fallible<()> {
        loop {
            let field = match self.rest.strip_prefix('"') {
                Some(rest) => self.quoted(rest)?,
                None => self.plain(),
            };
            reserve(FIELD_BYTES + field.len())?;
            take(field)?;
            match self.rest.strip_prefix(self.delimiter) {
                Some(rest) => self.rest = rest,
                None => {
                    self.end_of_line();
                    return Ok(());
                }
            }
        }
    }

    fn plain(&mut self) -> Cow<'a, str> {
        let end = self.rest.find([self.delimiter, '\r', '\n']);
        let (field, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        Cow::Borrowed(field)
    }

    /// What stands between the quotes, two of them read as one.
    fn quoted(&mut self, text: &'a str) -> Fallible<Cow<'a, str>> {
        let begin = self.line;
        let mut field = Cow::Borrowed("");
        let mut rest = text;
        loop {
            let Some((part, behind)) = rest.split_once('"') else {
                return Err(invalid(begin, "a quote is opened and never closed"));
            };
            self.line += lines(part.as_bytes());
            if field.is_empty() {
                field = Cow::Borrowed(part);
            } else {
                reserve(2 * (field.len() + part.len()))?;
                field.to_mut().push_str(part);
            }
            match behind.strip_prefix('"') {
                Some(behind) => {
                    reserve(2 * field.len())?;
                    field.to_mut().push('"');
                    rest = behind;
                }
                None => {
                    self.rest = behind;
                    break;
                }
            }
        }
        if !self.rest.is_empty() && !self.rest.starts_with([self.delimiter, '\r', '\n']) {
            return Err(invalid(self.line, "text stands behind the closing quote of a field"));
        }
        Ok(field)
    }

    fn end_of_line(&mut self) -> bool {
        let ends = ["\r\n", "\n", "\r"];
        let Some(rest) = ends.iter().find_map(|end| self.rest.strip_prefix(end)) else {
            return false;
        };
        self.rest = rest;
        self.line += 1;
        true
    }
}

/// Ends of lines.
fn lines(bytes: &[u8]) -> usize {
    let newlines = bytes.iter().filter(|byte| **byte == b'\n').count();
    let alone = bytes.windows(2).filter(|pair| pair[0] == b'\r' && pair[1] != b'\n').count();
    newlines + alone + usize::from(bytes.ends_with(b"\r"))
}

/// What the first line of a table says.
struct Columns {
    names: Vec<ImmutableString>,
    /// They are those of the first row, and a row with others would lose them.
    are_all: bool,
}

fn write(rows: &mut Array, options: Named<'_>) -> Fallible<ImmutableString> {
    let mut table = Table { text: Buffer::new(usize::MAX), delimiter: delimiter(options)?, row: 0 };
    let columns = columns(rows, options)?;
    if let Some(Columns { names, .. }) = &columns {
        let names: Array = names.iter().cloned().map(Dynamic::from).collect();
        table.row(names.iter())?;
    }
    for (index, row) in rows.iter().enumerate() {
        table.row = index + 1;
        let mixed = |kind: Kind| {
            let words = kind.words();
            table_error(
                index + 1,
                &format!("every row is a map, or every row is an array, and this is {words}"),
            )
        };
        match (kind(row), &columns) {
            (Kind::Map, Some(columns)) => {
                let map = row.as_map_ref().map_err(refused)?;
                check_names(&map, columns, index + 1)?;
                table.row(
                    columns
                        .names
                        .iter()
                        .map(|name| map.get(name.as_str()).unwrap_or(&Dynamic::UNIT)),
                )?;
            }
            (Kind::Array, Some(Columns { are_all: true, .. })) => return Err(mixed(Kind::Array)),
            (Kind::Array, _) => table.row(row.as_array_ref().map_err(refused)?.iter())?,
            (other, _) => return Err(mixed(other)),
        }
    }
    Ok(table.text.into_text().into())
}

/// As the option says, or else those of the first row where that is a map.
fn columns(rows: &Array, options: Named<'_>) -> Fallible<Option<Columns>> {
    let Some(named) = options.get("columns") else {
        let first = rows.first().and_then(|row| row.as_map_ref().ok());
        let names = first.map(|row| row.keys().map(|name| name.as_str().into()).collect());
        return Ok(names.map(|names| Columns { names, are_all: true }));
    };
    let what = "an array of names";
    let named = named.as_array_ref().map_err(|_| wrong("columns", what, named))?;
    let name = |value: &Dynamic| {
        let name = value.read_lock::<ImmutableString>().map(|name| name.clone());
        name.ok_or_else(|| wrong("columns", what, value))
    };
    let names = named.iter().map(name).collect::<Fallible<_>>()?;
    Ok(Some(Columns { names, are_all: false }))
}

fn check_names(row: &Map, columns: &Columns, number: usize) -> Fallible<()> {
    // Those of a map come sorted.
    let known =
        |name: &str| columns.names.binary_search_by(|known| known.as_str().cmp(name)).is_ok();
    match row.keys().find(|name| columns.are_all && !known(name)) {
        Some(name) => {
            let name: String = name.chars().take(SHOWN_MAX).collect();
            let words = format!(
                "`{name}` is not among the names of the first row; the option `columns` says which are written"
            );
            Err(table_error(number, &words))
        }
        None => Ok(()),
    }
}

/// A table as it is written.
struct Table {
    text: Buffer,
    delimiter: char,
    /// From 1; 0 is the line of names.
    row: usize,
}

impl Table {
    fn row<'a>(&mut self, values: impl Iterator<Item = &'a Dynamic>) -> Fallible<()> {
        let begin = self.text.len();
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.push(self.delimiter)?;
            }
            self.field(value, index)?;
        }
        if self.text.len() == begin {
            // Else it would be an empty line, and no row.
            self.text.push_str("\"\"").map_err(full)?;
        }
        self.text.push_str("\r\n").map_err(full)
    }

    fn field(&mut self, value: &Dynamic, index: usize) -> Fallible<()> {
        match kind(value) {
            Kind::Unit => Ok(()),
            Kind::Text => match value.read_lock::<ImmutableString>() {
                Some(text) => self.text(&text),
                None => Ok(()),
            },
            Kind::Bool | Kind::Int | Kind::Float | Kind::Char => self.text(&to_text(value)),
            Kind::Shared => match value.read_lock::<Dynamic>() {
                Some(inner) => self.field(&inner, index),
                None => Err(table_error(self.row, "a variable that is in use cannot be read")),
            },
            other => {
                let words = format!(
                    "field {} is {}, which no table can hold; `json::stringify` makes text of it",
                    index + 1,
                    other.words()
                );
                Err(table_error(self.row, &words))
            }
        }
    }

    fn text(&mut self, text: &str) -> Fallible<()> {
        if !text.contains([self.delimiter, '"', '\r', '\n']) {
            return self.text.push_str(text).map_err(full);
        }
        self.push('"')?;
        for (index, part) in text.split('"').enumerate() {
            self.text.push_str(if index > 0 { "\"\"" } else { "" }).map_err(full)?;
            self.text.push_str(part).map_err(full)?;
        }
        self.push('"')
    }

    fn push(&mut self, character: char) -> Fallible<()> {
        self.text.push(character).map_err(full)
    }
}

fn full(_: Full) -> Box<EvalAltResult> {
    Ending::Memory.error()
}

/// One character that is no part of the form itself.
fn delimiter(options: Named<'_>) -> Fallible<char> {
    let what = "one character such as \";\" or \"\\t\"";
    let Some(text) = options.text("delimiter", what)? else { return Ok(',') };
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(one), None) if !['"', '\r', '\n'].contains(&one) => Ok(one),
        _ => Err(refused(&format!("the option `delimiter` takes {what}"))),
    }
}

fn invalid(line: usize, why: &str) -> Box<EvalAltResult> {
    thrown("INVALID_CSV", &format!("line {line}: {why}"))
}

fn table_error(row: usize, why: &str) -> Box<EvalAltResult> {
    refused(&format!("row {row}: {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rhai::{Dynamic, Map};

    use super::{Named, parse, write};
    use crate::script::builtins::testing::{check, run_with};
    use crate::script::value::to_debug_text;

    #[test]
    fn rows_are_read_as_maps_or_as_arrays() {
        check(
            r#"csv::parse("name,price\nApple,1.20\n\"Pear, green\",2\n")"#,
            r#"[#{"name": "Apple", "price": "1.20"}, #{"name": "Pear, green", "price": "2"}]"#,
        );
        check(
            r#"csv::parse("a;b\r\n;\"x\"\"y\"\r\n", #{ header: false, delimiter: ";" })"#,
            r#"[["a", "b"], ["", "x\"y"]]"#,
        );
        check(r#"csv::parse("a\tb\n1\t2", #{ delimiter: "\t" })"#, r#"[#{"a": "1", "b": "2"}]"#);
        check("csv::parse(\"a,b\\n1,2\\n\".to_blob())", r#"[#{"a": "1", "b": "2"}]"#);
        check(
            r#"csv::parse("a\n\"line one\nline two\"\n\"\"\"\"\n")"#,
            r#"[#{"a": "line one\nline two"}, #{"a": "\""}]"#,
        );
        // Rows of any length, where no names say how long one is; a quote inside of a field is one.
        check(
            r#"csv::parse("1\n1,2,\n5\" pipe", #{ header: false })"#,
            r#"[["1"], ["1", "2", ""], ["5\" pipe"]]"#,
        );
    }

    #[test]
    fn marks_line_ends_and_empty_lines_are_no_rows() {
        for text in ["\u{feff}a,b\n1,2", "\r\n\na,b\r\n\r\n1,2\r\n\r\n", "a,b\r1,2\r"] {
            let mut scope = rhai::Scope::new();
            scope.push("text", text.to_owned());
            let engine = crate::script::builtins::testing::engine();
            let rows = engine.eval_with_scope::<Dynamic>(&mut scope, "csv::parse(text)").unwrap();
            assert_eq!(to_debug_text(&rows), r#"[#{"a": "1", "b": "2"}]"#, "{text:?}");
        }
        check("[csv::parse(\"\"), csv::parse(\"a,b\"), csv::parse(\"\\n\")]", "[[], [], []]");
    }

    #[test]
    fn what_would_shift_or_swallow_fields_is_refused_with_its_line() {
        let refused = |text: &str, expected: &str| {
            check(&format!("csv::parse(\"{text}\")"), &format!("INVALID_CSV: {expected}"));
        };
        refused(r"a,b\n1,2\n3", "line 3: the first line names 2 fields, and here are 1");
        refused(
            r#"a,b\n\"x\ny\",2\n1,2,3"#,
            "line 4: the first line names 2 fields, and here are 3",
        );
        refused(r#"a,b\n1,\"2\n3,4\n"#, "line 2: a quote is opened and never closed");
        refused(r#"a\n\"x\r\ny\"z"#, "line 3: text stands behind the closing quote of a field");
        refused("a,b,a", "line 1: `a` is the name of two columns");
        check(
            "let b = blob(4, 10); b[3] = 255; csv::parse(b)",
            "INVALID_CSV: line 4: it is not UTF-8 text",
        );
    }

    #[test]
    fn tables_are_written_with_the_quotes_that_they_need() {
        check(
            r#"csv::to_string([#{ b: 1, a: "x,y" }, #{ a: "say \"hi\"", b: () }, #{ b: 2.5 }])"#,
            r#""a,b\r\n\"x,y\",1\r\n\"say \"\"hi\"\"\",\r\n,2.5\r\n""#,
        );
        check(
            r#"csv::to_string([#{ id: 1, name: "é", note: "-" }], #{ columns: ["name", "id", "more"], delimiter: ";" })"#,
            r#""name;id;more\r\né;1;\r\n""#,
        );
        check(
            r#"csv::to_string([["a", true, 'c'], ["line\nbreak"], [()], []])"#,
            r#""a,true,c\r\n\"line\nbreak\"\r\n\"\"\r\n\"\"\r\n""#,
        );
        check(r#"csv::to_string([[1, 2]], #{ columns: ["a", "b"] })"#, r#""a,b\r\n1,2\r\n""#);
        check(
            r#"[csv::to_string([]), csv::to_string([], #{ columns: ["a"] })]"#,
            r#"["", "a\r\n"]"#,
        );
        check("const R = [[1]]; csv::to_string(R); R", "[[1]]");
        check("let x = 1; let f = || x; csv::to_string([[x]])", "\"1\\r\\n\"");
    }

    #[test]
    fn what_no_table_can_hold_says_where() {
        let refused = |call: &str, expected: &str| {
            check(call, &format!("INVALID_ARGUMENT: {expected}"));
        };
        refused(
            "csv::to_string([#{ a: 1 }, #{ a: 1, b: 2 }])",
            "row 2: `b` is not among the names of the first row; the option `columns` says which are written",
        );
        refused(
            "csv::to_string([[1], [2, [3]]])",
            "row 2: field 2 is an array, which no table can hold; `json::stringify` makes text of it",
        );
        refused(
            "csv::to_string([#{ a: 1 }, [1]])",
            "row 2: every row is a map, or every row is an array, and this is an array",
        );
        refused(
            "csv::to_string([[1], #{ a: 1 }])",
            "row 2: every row is a map, or every row is an array, and this is a map",
        );
        refused(
            "csv::to_string([1])",
            "row 1: every row is a map, or every row is an array, and this is an integer",
        );
        refused(
            "csv::to_string([], #{ columns: \"a\" })",
            "the option `columns` takes an array of names, not that",
        );
        refused(
            "csv::parse(\"\", #{ header: 1 })",
            "the option `header` takes `true` or `false`, not an integer",
        );
        refused(
            "csv::parse(\"\", #{ headers: true })",
            "there is no option `headers`; it takes `header`, `delimiter`",
        );
        for delimiter in ["", ";;", "\\\"", "\\n"] {
            refused(
                &format!("csv::parse(\"\", #{{ delimiter: \"{delimiter}\" }})"),
                "the option `delimiter` takes one character such as \";\" or \"\\t\"",
            );
        }
        refused("csv::parse(())", "a string or a blob is needed, not (); is the field missing?");
    }

    #[test]
    fn s20_tables_end_at_the_budget() {
        let blob = "let b = blob(200000, 120); csv::parse(b, #{ header: false })";
        assert_eq!(run_with(200_050, blob), "ended: Memory");
        let quotes = "let s = \"x\"; s.pad(200000, '\"'); csv::to_string([[s]])";
        assert_eq!(run_with(300_000, quotes), "ended: Memory");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            rows in prop::collection::vec(prop::collection::vec("[a,;\"\r\n é]{0,5}", 3), 0..5), semicolon in any::<bool>(),
        ) {
            let mut options = Map::new();
            options.insert("delimiter".into(), if semicolon { ";" } else { "," }.into());
            let mut written: rhai::Array = rows
                .iter()
                .map(|row| Dynamic::from_array(row.iter().map(|field| field.clone().into()).collect()))
                .collect();
            let text = write(&mut written, Named::of(&options, &["delimiter"]).unwrap()).unwrap();
            options.insert("header".into(), false.into());
            let options = Named::of(&options, &["delimiter", "header"]).unwrap();
            let read = parse(&text.into(), options).unwrap();
            prop_assert_eq!(to_debug_text(&read.into()), to_debug_text(&written.into()));
        }

        #[test]
        fn no_text_brings_the_reader_down(text in "[a,\"\r\n]{0,20}") {
            let text = Dynamic::from(text);
            let _ = parse(&text, Named::NONE);
        }
    }
}
