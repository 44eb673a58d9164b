//! V15, and of V14 what needs TLS: certificates that must not be believed.

use std::process::Command;

use super::{PATIENT, answers, failed, get, start_with};
use crate::support::upstream::{Step, Upstream, certificates, json, redirect, tls_1_0_only};

/// The system trusts one authority, that of the tests.
fn trusting(command: &mut Command) {
    command.env("SSL_CERT_FILE", certificates().join("ca.pem")).env_remove("SSL_CERT_DIR");
}

#[test]
fn v15_a_certificate_that_is_not_good_is_unavailable_and_the_message_says_why() {
    let with = |name: &str| Upstream::tls(name, answers(&json("{\"n\":1}")));
    let old = Upstream::always(vec![Step::Send(tls_1_0_only()), Step::Hang]);
    let names = ["good", "expired", "wrong-name", "self-signed", "unknown-ca"];
    let upstreams: Vec<Upstream> = names.iter().map(|name| with(name)).collect();
    let urls: Vec<String> = upstreams.iter().map(Upstream::url).collect();
    let old_url = old.url().replace("http:", "https:");
    let tables = [
        ("good", &*urls[0], PATIENT),
        ("expired", &*urls[1], PATIENT),
        ("wrong_name", &*urls[2], PATIENT),
        ("self_signed", &*urls[3], PATIENT),
        ("unknown_ca", &*urls[4], PATIENT),
        ("old", &*old_url, PATIENT),
    ];
    let (_project, rhaiway) = start_with(1, &tables, trusting);
    assert_eq!(get(&rhaiway, "/good/get")["got"]["n"], 1);
    for (name, part) in [
        ("expired", "certificate expired"),
        ("wrong_name", "not valid for name \"localhost\""),
        ("self_signed", "UnknownIssuer"),
        ("unknown_ca", "UnknownIssuer"),
        ("old", "ProtocolVersion"),
    ] {
        failed(&get(&rhaiway, &format!("/{name}/get")), "SERVICE_UNAVAILABLE", part);
    }
    assert!(upstreams[1..].iter().all(|upstream| upstream.requests().is_empty()));
}

#[test]
fn v14_a_redirect_from_https_to_http_is_refused() {
    let plain = Upstream::always(answers(&json("{\"n\":9}")));
    let safe = Upstream::tls("good", answers(&redirect("302 Found", &plain.url())));
    let (_project, rhaiway) = start_with(1, &[("x", &safe.url(), PATIENT)], trusting);
    failed(&get(&rhaiway, "/x/get"), "INVALID_REQUEST", "redirects to another place");
    assert_eq!(plain.connections(), 0);
}
