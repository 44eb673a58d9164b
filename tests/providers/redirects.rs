//! V2, V14: where a call may lead, by its name's address and by redirects.

use super::{PATIENT, answers, config, failed, get, post, routes, start};
use crate::support::Project;
use crate::support::upstream::{Step, Upstream, json, redirect};

#[test]
fn v2_in_production_a_name_that_leads_into_a_private_network_is_refused_unless_config_says_so() {
    let upstream = Upstream::always(answers(&json("{\"n\":1}")));
    let (named, numbered) = (upstream.url(), format!("http://{}", upstream.address()));
    let allowed = format!("{PATIENT}\nprivate_network = true");
    let tables = [
        ("refused", &*named, PATIENT),
        ("allowed", &*named, &*allowed),
        ("written", &*numbered, PATIENT),
    ];
    let config = config(1, "production", &tables);
    let project = Project::with_config(&config, &routes(&["refused", "allowed", "written"]));
    let rhaiway = project.start();
    for _time in 0..2 {
        let told = get(&rhaiway, "/refused/get");
        failed(&told, "CONFIGURATION_ERROR", "an address of a private network");
        failed(&told, "CONFIGURATION_ERROR", "`private_network = true`");
    }
    assert_eq!(upstream.connections(), 0);
    assert_eq!(get(&rhaiway, "/allowed/get")["got"]["n"], 1);
    assert_eq!(get(&rhaiway, "/written/get")["got"]["n"], 1);
}

#[test]
fn v14_a_redirect_is_followed_to_the_same_place_only_and_not_for_ever() {
    let elsewhere = Upstream::always(answers(&json("{\"n\":9}")));
    let away = Upstream::always(answers(&redirect("302 Found", &format!("{}/x", elsewhere.url()))));
    let circle = Upstream::always(answers(&redirect("302 Found", "/thing")));
    let moved = Upstream::always(vec![
        Step::Read,
        Step::Send(redirect("308 Permanent Redirect", "/moved?a=1")),
        Step::Read,
        Step::Send(json("{\"n\":1}")),
    ]);
    let blind = Upstream::always(answers(&redirect("307 Temporary Redirect", "/other")));
    let keyed = format!("{PATIENT}\nauth = {{ bearer_env = \"KEY\" }}");
    let (_project, rhaiway) = super::start_with(
        1,
        &[
            ("away", &away.url(), &keyed),
            ("circle", &circle.url(), PATIENT),
            ("moved", &moved.url(), &keyed),
            ("blind", &blind.url(), PATIENT),
        ],
        |command| _ = command.env("KEY", "key-of-redirects"),
    );
    let told = get(&rhaiway, "/away/get");
    failed(&told, "INVALID_REQUEST", "redirects to another place");
    assert_eq!(told["status"], 302);
    // Who asks for whatever comes is given the redirect itself.
    let whole = get(&rhaiway, "/away/whole");
    assert_eq!((&whole["status"], &whole["body"]), (&302.into(), &serde_json::Value::Null));
    assert_eq!(whole["headers"]["location"], format!("{}/x", elsewhere.url()));
    assert_eq!(elsewhere.connections(), 0);

    failed(&get(&rhaiway, "/circle/get"), "SERVICE_UNAVAILABLE", "5 redirects were followed");
    assert_eq!(circle.requests().len(), 6);

    assert_eq!(get(&rhaiway, "/moved/get")["got"]["n"], 1);
    let asked = moved.requests();
    assert_eq!((&*asked[0].path, &*asked[1].path), ("/thing", "/moved?a=1"));
    assert_eq!(asked[1].header("authorization"), Some("Bearer key-of-redirects"));

    failed(&post(&rhaiway, "/blind/post"), "INVALID_REQUEST", "not repeated blindly");
    assert_eq!(blind.requests().len(), 1);
}

#[test]
fn v14_names_that_only_look_like_the_same_place_are_another() {
    let upstream = Upstream::start(|number| {
        let to = ["//127.0.0.1/x", "https://localhost/x", "http://localhost:1/x", "http://[bad"]
            [number % 4];
        vec![Step::Read, Step::Send(redirect("301 Moved Permanently", to))]
    });
    let (_project, rhaiway) = start(&[("x", &upstream.url(), PATIENT)]);
    for _redirect in 0..4 {
        failed(&get(&rhaiway, "/x/get"), "INVALID_REQUEST", "redirects to another place");
    }
    assert_eq!(upstream.requests().len(), 4);
}
