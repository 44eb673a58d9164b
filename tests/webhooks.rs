//! A delivery through the front door: verified, stored once, handled once, visible to a route.

use crate::support::{Project, clerk_event, eventually, signed};

/// Users by id, and a count of the handler's runs.
const USERS: &str = r#"
webhook("clerk", ["user.created", "user.updated"], |event| {
    db.users.put(event.data.id, #{ name: event.data.first_name, updated_at: event.data.updated_at }, #{ if_newer: "updated_at" });
    db.counts.increment("runs", "n", 1);
});
webhook("clerk", "user.deleted", |event| db.users.delete(event.data.id, #{ tombstone: true }));
get("/users/{id}", #{ auth: "none" }, |req| db.users.get(req.params.id) ?? status(404));
get("/runs", #{ auth: "none" }, |req| #{ n: db.counts.get("runs")?.n ?? 0 });
"#;

#[test]
fn a_duplicate_delivery_is_acknowledged_and_not_handled_again() {
    let project = Project::new(USERS);
    let rhaiway = project.start();
    let delivery = signed("msg_1", clerk_event("user.created", "u1", 1));
    for _ in 0..3 {
        let answer = rhaiway.deliver(&delivery);
        assert_eq!((answer.status, answer.text()), (200, r#"{"received":true}"#));
    }
    eventually("the user is there", || (rhaiway.get("/users/u1").status == 200).then_some(()));
    let other = signed("msg_2", clerk_event("user.created", "u2", 1));
    rhaiway.deliver(&other);
    eventually("the second user is there", || {
        (rhaiway.get("/users/u2").status == 200).then_some(())
    });
    assert_eq!(rhaiway.get("/runs").json()["n"], 2);
}

#[test]
fn an_update_that_arrives_after_the_deletion_does_not_bring_a_user_back() {
    let project = Project::new(USERS);
    let rhaiway = project.start();
    rhaiway.deliver(&signed("msg_1", clerk_event("user.created", "u1", 10)));
    eventually("the user is there", || (rhaiway.get("/users/u1").status == 200).then_some(()));
    rhaiway.deliver(&signed("msg_2", clerk_event("user.deleted", "u1", 0)));
    eventually("the user is gone", || (rhaiway.get("/users/u1").status == 404).then_some(()));
    rhaiway.deliver(&signed("msg_3", clerk_event("user.updated", "u1", 9)));
    eventually("the late update was handled", || {
        (rhaiway.get("/runs").json()["n"] == 2).then_some(())
    });
    assert_eq!(rhaiway.get("/users/u1").status, 404);
}
