//! Many small handlers in one running instance: a row is a handler's body, and what a caller gets from it.

use super::{Project, Response, Rhaiway, eventually};

/// A handler's body, the status it answers with, and text that is in the answer; for errors text that is in the log line of that request.
pub(crate) type Row = (&'static str, u16, &'static str);

/// Serves `functions` and a route for each row, asks each, and compares.
pub(crate) fn check_rows(functions: &str, rows: &[Row]) {
    let project = Project::new(&routes(functions, rows));
    check_rows_of(&project.start(), rows);
}

/// The script that `check_rows_of` asks.
pub(crate) fn routes(functions: &str, rows: &[Row]) -> String {
    let routes: String = rows
        .iter()
        .enumerate()
        .map(|(n, (body, ..))| {
            format!("get(\"/row/{n}\", #{{ auth: \"none\" }}, |req| {{ {body} }});\n")
        })
        .collect();
    format!("{functions}\n{routes}")
}

/// Asks each row of a running instance.
pub(crate) fn check_rows_of(rhaiway: &Rhaiway, rows: &[Row]) {
    for (n, (body, status, part)) in rows.iter().enumerate() {
        let response = rhaiway.get(&format!("/row/{n}"));
        let shown = String::from_utf8_lossy(&response.body);
        if response.status >= 500 {
            let said = logged(rhaiway, &response);
            assert!(
                response.status == *status && said.contains(part),
                "{body}: {} {said}",
                response.status
            );
            assert!(
                !shown.contains(part),
                "{body}: the answer tells a caller what only the log may: {shown}"
            );
        } else {
            assert!(
                response.status == *status && shown.contains(part),
                "{body}: {} {shown}",
                response.status
            );
        }
    }
}

/// The log line of a request.
pub(crate) fn logged(rhaiway: &Rhaiway, response: &Response) -> String {
    let id = response.header("x-request-id").expect("every answer has one").to_owned();
    eventually(&format!("a log line of {id}"), || {
        rhaiway.log().into_iter().find(|line| line.contains(&id)).map(|line| message(&line))
    })
}

fn message(line: &str) -> String {
    let parsed: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    parsed.as_object().map_or_else(
        || line.to_owned(),
        |fields| fields.values().filter_map(|value| value.as_str()).collect::<Vec<_>>().join(" "),
    )
}
