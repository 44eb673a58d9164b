//! What a route says of its callers: a word that means nothing never opens it to all, and in production silence is refused.

use crate::support::Project;

/// `rhaiway check` on one route: its exit code and what it says.
fn check(environment: &str, options: &str) -> (Option<i32>, String) {
    let config = format!("[server]\nenvironment = \"{environment}\"\n");
    let project =
        Project::with_config(&config, &format!("get(\"/a\", {options}|req| #{{ ok: true }});"));
    let checked = project.run(&["check"]);
    (checked.status.code(), String::from_utf8_lossy(&checked.stderr).into_owned())
}

#[test]
fn a_route_with_an_unknown_way_to_tell_callers_apart_is_not_served() {
    let (code, said) = check("development", "#{ auth: \"clerk\" }, ");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("E0235") && said.contains("GET /a"), "{said}");
}

#[test]
fn in_production_a_route_says_who_may_call_it() {
    let (code, said) = check("production", "");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("E0236"), "{said}");
    assert_eq!(check("production", "#{ auth: \"none\" }, ").0, Some(0));
    assert_eq!(check("development", "").0, Some(0));
}
