//! What is stored, as `rhaiway events` tells it.

use serde_json::Value;

use super::Project;

/// Every stored event, newest first, as in a list.
pub(crate) fn events(project: &Project) -> Vec<Value> {
    let output = project.run(&["events", "--json", "--limit", "1000"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("JSON Lines");
    text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
}

/// The event of a delivery, whole, if it is stored.
pub(crate) fn event(project: &Project, delivery: &str) -> Option<Value> {
    let listed = events(project).into_iter().find(|event| event["delivery_id"] == delivery)?;
    let id = listed["id"].as_str().expect("an id");
    let output = project.run(&["events", id, "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("one object"))
}
