//! A team's own provider: a table in config.toml and a descriptor beside it, added, broken and mended while all goes on; lists that go through
//! their pages; and names that no descriptor has.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::upstream::{Asked, Upstream, answer, json as answered};
use crate::support::{Project, Rhaiway, eventually};

const SERVER: &str = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n";
const HERE: &str = "get(\"/here\", #{ auth: \"none\" }, |req| \"here\");\n";

const DESCRIPTOR: &str = r#"
[operations]
"orders.retrieve" = { method = "GET", path = "/v2/orders/{id}", doc = "Gives an order" }
"orders.create" = { method = "POST", path = "/v2/orders" }
"#;

const SCRIPT: &str = r#"
get("/orders/{id}", #{ auth: "none" }, |req| shop.orders.retrieve(req.params.id));
"#;

fn config(upstream: &Upstream) -> String {
    format!(
        "{SERVER}[providers.shop]\nkind = \"http\"\nbase_url = \"{}/api\"\ndescriptor = \"providers/shop.toml\"\n",
        upstream.url()
    )
}

/// One that says where it was asked.
fn echo() -> Upstream {
    Upstream::serving(|asked| answered(&json!({ "path": asked.path }).to_string()))
}

fn shop(upstream: &Upstream, descriptor: &str, script: &str) -> (Project, Rhaiway) {
    let project = Project::with_config(&config(upstream), HERE);
    project.write("providers/shop.toml", descriptor);
    project.write("scripts/shop.rhai", script);
    let rhaiway = project.start();
    (project, rhaiway)
}

/// Waits until an order comes from this path.
fn comes_from(rhaiway: &Rhaiway, path: &str) {
    eventually(path, || {
        let order = rhaiway.get("/orders/7");
        (order.status == 200 && order.json() == json!({ "path": path })).then_some(())
    });
}

#[test]
fn a_team_adds_a_provider_of_its_own_while_it_runs() {
    let upstream = echo();
    let project = Project::with_config(SERVER, HERE);
    let rhaiway = project.start();
    assert_eq!(rhaiway.get("/orders/7").status, 404);
    project.write("providers/shop.toml", DESCRIPTOR);
    project.write("config.toml", config(&upstream));
    project.write("scripts/shop.rhai", SCRIPT);
    comes_from(&rhaiway, "/api/v2/orders/7");
    assert_eq!(rhaiway.get("/here").text(), "here");
    let (_, said) = project.expect(0, &["check"]);
    assert!(said.contains("0 errors, 0 warnings"), "{said}");
}

#[test]
fn a_descriptor_that_breaks_is_shown_at_its_line_and_the_last_good_one_serves_until_it_is_mended() {
    let upstream = echo();
    let (project, rhaiway) = shop(&upstream, DESCRIPTOR, SCRIPT);
    comes_from(&rhaiway, "/api/v2/orders/7");
    for (n, (broken, place, part)) in [
        (DESCRIPTOR.replace("method = \"GET\"", "methd = \"GET\""), "shop.toml:3:", "methd"),
        (DESCRIPTOR.replace("\"GET\"", "\"FETCH\""), "shop.toml:3:", "FETCH"),
        (DESCRIPTOR.replace("[operations]", "[operations"), "shop.toml:2:", "]"),
        (DESCRIPTOR.replace("{id}", "{id"), "shop.toml:3:", "{id"),
        (DESCRIPTOR.replace("orders.create", "orders.new"), "shop.toml:4:", "orders.new"),
    ]
    .iter()
    .enumerate()
    {
        project.write("providers/shop.toml", broken);
        let line = rhaiway.wait_for_log(&format!("providers/{place}"));
        assert!(line.contains("ERROR") && line.contains("still serves"), "{n}: {line}");
        let (_, said) = project.expect(1, &["check"]);
        assert!(said.contains(&format!("providers/{place}")) && said.contains(part), "{n}: {said}");
        comes_from(&rhaiway, "/api/v2/orders/7");
        let path = format!("/v3/{n}/orders/{{id}}");
        project.write("providers/shop.toml", DESCRIPTOR.replace("/v2/orders/{id}", &path));
        comes_from(&rhaiway, &format!("/api/v3/{n}/orders/7"));
        project.write("providers/shop.toml", DESCRIPTOR);
        comes_from(&rhaiway, "/api/v2/orders/7");
    }
    project.remove("providers/shop.toml");
    let line = rhaiway.wait_for_log("it cannot be read");
    assert!(line.contains("config.toml:") && line.contains("still serves"), "{line}");
    comes_from(&rhaiway, "/api/v2/orders/7");
    project.write("providers/shop.toml", DESCRIPTOR.replace("v2/orders/{id}", "v4/{id}"));
    comes_from(&rhaiway, "/api/v4/7");
}

#[test]
fn an_operation_that_no_descriptor_has_is_an_error_at_load_with_the_nearest_name() {
    let upstream = echo();
    let (project, rhaiway) = shop(&upstream, DESCRIPTOR, SCRIPT);
    for (script, part) in [
        (SCRIPT.replace("retrieve", "retreive"), "shop.orders.retrieve"),
        (SCRIPT.replace("orders.retrieve", "order.retrieve"), "orders"),
        (SCRIPT.replace("(req.params.id)", "()"), "id"),
        (
            "get(\"/o\", |req| { fn_of(1) });\nfn fn_of(x) { shop.orders.create(#{}, #{}, x) }"
                .to_owned(),
            "create",
        ),
    ] {
        project.write("scripts/shop.rhai", &script);
        let (_, said) = project.expect(1, &["check"]);
        assert!(said.contains("scripts/shop.rhai:2:") && said.contains(part), "{script}\n{said}");
        rhaiway.wait_for_log("scripts/shop.rhai:2:");
        comes_from(&rhaiway, "/api/v2/orders/7");
    }
    // The other way round: the script stays, and the operation goes.
    project.write("scripts/shop.rhai", SCRIPT);
    project.write("providers/shop.toml", DESCRIPTOR.replace("orders.retrieve", "orders.get_one"));
    let (_, said) = project.expect(1, &["check"]);
    assert!(said.contains("scripts/shop.rhai:2:") && said.contains("get_one"), "{said}");
    rhaiway.wait_for_log("get_one");
}

const LISTS: &str = r#"
[pages]
last_id = { kind = "last_id", items = ["/items"], param = "after", more = "/more" }
offset = { kind = "offset", items = ["/items"], param = "offset", total = "/total" }
cursor = { kind = "cursor", items = ["/items"], param = "cursor", cursor = "/next", size = { param = "limit", max = 2 } }
url = { kind = "url", items = ["/items"], url = "/next" }
link = { kind = "link", items = [""] }
number = { kind = "number", items = ["/items"], param = "page", pages = "/pages" }
whole = { kind = "whole", items = ["/items"] }
full = { kind = "offset", items = ["/items"], param = "offset", size = { param = "limit", max = 2 } }

[operations]
"last_id.list" = { method = "GET", path = "/last_id", page = "last_id" }
"offset.list" = { method = "GET", path = "/offset", page = "offset" }
"cursor.list" = { method = "GET", path = "/cursor", page = "cursor" }
"url.list" = { method = "GET", path = "/url", page = "url" }
"link.list" = { method = "GET", path = "/link", page = "link" }
"number.list" = { method = "GET", path = "/number", page = "number" }
"whole.list" = { method = "GET", path = "/whole", page = "whole" }
"full.list" = { method = "GET", path = "/full", page = "full" }
"same.list" = { method = "GET", path = "/same", page = "cursor" }
"round.list" = { method = "GET", path = "/round", page = "cursor" }
"away.list" = { method = "GET", path = "/away", page = "url" }
"none.list" = { method = "GET", path = "/none", page = "offset" }
"fails.list" = { method = "GET", path = "/fails", page = "cursor" }
"#;

const LISTING: &str = r#"
fn ids(list) {
    let ids = [];
    for item in list { ids.push(item.id); }
    ids
}
get("/last_id", #{ auth: "none" }, |req| ids(shop.last_id.list()));
get("/offset", #{ auth: "none" }, |req| ids(shop.offset.list()));
get("/cursor", #{ auth: "none" }, |req| ids(shop.cursor.list()));
get("/url", #{ auth: "none" }, |req| ids(shop.url.list()));
get("/link", #{ auth: "none" }, |req| ids(shop.link.list()));
get("/number", #{ auth: "none" }, |req| ids(shop.number.list()));
get("/whole", #{ auth: "none" }, |req| ids(shop.whole.list()));
get("/full", #{ auth: "none" }, |req| ids(shop.full.list(#{ limit: 1000 })));
get("/middle", #{ auth: "none" }, |req| ids(shop.offset.list(#{ offset: 3, q: "a b" })));
get("/same", #{ auth: "none" }, |req| ids(shop.same.list()));
get("/round", #{ auth: "none" }, |req| ids(shop.round.list()));
get("/none", #{ auth: "none" }, |req| ids(shop.none.list()));
get("/away", #{ auth: "none" }, |req| {
    try { return ids(shop.away.list(#{ to: req.query.to })); } catch (err) { return err; }
});
get("/fails", #{ auth: "none" }, |req| {
    let seen = [];
    try { for item in shop.fails.list() { seen.push(item.id); } } catch (err) { seen.push(err.code); }
    seen
});
get("/first", #{ auth: "none" }, |req| {
    for item in shop.cursor.list() { return item.id; }
});
get("/page", #{ auth: "none" }, |req| {
    let page = shop.cursor.list();
    #{ items: page.items, next: page.next, named: page["next"], first: page[0].id, last: page[-1].id, none: page[9], count: page.len(), absent: page.absent }
});
get("/bare", #{ auth: "none" }, |req| {
    let page = shop.link.list();
    [page.len(), page[1].id, page.items.filter(|item| item.id > 1).len(), page.other]
});
get("/as_it_is", #{ auth: "none" }, |req| shop.cursor.list());
get("/stored", #{ auth: "none" }, |req| {
    db.pages.put("p", #{ page: shop.cursor.list() });
    db.pages.get("p").page.next
});
"#;

/// Six items, two a page, in every manner.
fn lists(asked: &Asked) -> Vec<u8> {
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let fields: BTreeMap<&str, &str> =
        query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let number = |name: &str| fields.get(name).and_then(|value| value.parse::<usize>().ok());
    let items =
        |from: usize| -> Vec<_> { (from + 1..=6).take(2).map(|id| json!({ "id": id })).collect() };
    let path = path.strip_prefix("/api").unwrap_or(path);
    let from = number("from").unwrap_or(0);
    let next = |from: usize| if from < 4 { json!(format!("c{}", from + 2)) } else { json!(null) };
    let body = match path {
        "/last_id" => {
            let from = number("after").unwrap_or(0);
            json!({ "items": items(from), "more": from < 4 })
        }
        "/offset" => json!({ "items": items(number("offset").unwrap_or(0)), "total": 6 }),
        "/full" => json!({ "items": items(number("offset").unwrap_or(0)) }),
        "/cursor" | "/fails" => {
            let cursor = fields.get("cursor").and_then(|cursor| cursor.strip_prefix('c'));
            let from = cursor.map_or(0, |from| from.parse().unwrap());
            if path == "/fails" && from == 2 {
                return answer("404 Not Found", &[], b"");
            }
            json!({ "items": items(from), "next": next(from) })
        }
        "/url" if from < 4 => {
            json!({ "items": items(from), "next": format!("/api/url?from={}", from + 2) })
        }
        "/url" => json!({ "items": items(from), "next": null }),
        "/link" => {
            let host = asked.header("host").unwrap();
            let next = format!("<http://{host}/api/link?from={}>; rel=\"next\"", from + 2);
            let next = if from < 4 { next } else { "<http://a.com>; rel=\"prev\"".to_owned() };
            let headers = [("content-type", "application/json"), ("link", &next)];
            return answer("200 OK", &headers, json!(items(from)).to_string().as_bytes());
        }
        "/number" => {
            json!({ "items": items((number("page").unwrap_or(1) - 1) * 2), "pages": 3 })
        }
        "/same" => json!({ "items": items(0), "next": "again" }),
        "/round" => {
            let next = if fields.get("cursor") == Some(&"a") { "b" } else { "a" };
            json!({ "items": items(0), "next": next })
        }
        "/away" => {
            let to = fields["to"].replace("%3A", ":").replace("%2F", "/").replace("%40", "@");
            json!({ "items": items(0), "next": to })
        }
        "/none" => json!({ "items": { "not": "a list" } }),
        _ => json!({ "items": items(0) }),
    };
    answered(&body.to_string())
}

fn paths(upstream: &Upstream, of: &str) -> Vec<String> {
    let asked = upstream.requests();
    asked.into_iter().map(|asked| asked.path).filter(|path| path.contains(of)).collect()
}

#[test]
fn a_list_in_a_for_goes_through_all_pages_in_every_manner_in_which_a_descriptor_says_the_next() {
    let upstream = Upstream::serving(lists);
    let (_project, rhaiway) = shop(&upstream, LISTS, LISTING);
    let check = |path: &str, asked: [&str; 3]| {
        assert_eq!(rhaiway.get(path).json(), json!([1, 2, 3, 4, 5, 6]), "{path}");
        assert_eq!(paths(&upstream, path), asked.map(|query| format!("/api{path}{query}")));
    };
    check("/last_id", ["", "?after=2", "?after=4"]);
    check("/offset", ["", "?offset=2", "?offset=4"]);
    check("/cursor", ["", "?limit=2&cursor=c2", "?limit=2&cursor=c4"]);
    check("/url", ["", "?from=2", "?from=4"]);
    check("/link", ["", "?from=2", "?from=4"]);
    check("/number", ["", "?page=2", "?page=3"]);
    assert_eq!(rhaiway.get("/whole").json(), json!([1, 2]));
    // A limit above the greatest gives pages of the greatest, and these are full.
    assert_eq!(rhaiway.get("/full").json(), json!([1, 2, 3, 4, 5, 6]));
    // A list that begins in the middle goes on from there, with what else was asked.
    assert_eq!(rhaiway.get("/middle").json(), json!([4, 5, 6]));
    let asked = paths(&upstream, "q=");
    assert_eq!(asked, ["/api/offset?offset=3&q=a+b", "/api/offset?q=a+b&offset=5"]);
}

#[test]
fn a_page_is_fetched_when_it_is_needed_and_reads_as_the_answer_that_it_is() {
    let upstream = Upstream::serving(lists);
    let (_project, rhaiway) = shop(&upstream, LISTS, LISTING);
    assert_eq!(rhaiway.get("/first").text(), "1");
    assert_eq!(upstream.requests().len(), 1);
    let expected = json!({
        "items": [{ "id": 1 }, { "id": 2 }], "next": "c2", "named": "c2", "first": 1, "last": 2, "none": null, "count": 2, "absent": null,
    });
    assert_eq!(rhaiway.get("/page").json(), expected);
    let whole = json!({ "items": [{ "id": 1 }, { "id": 2 }], "next": "c2" });
    assert_eq!(rhaiway.get("/bare").json(), json!([2, 2, 1, null]));
    assert_eq!(rhaiway.get("/as_it_is").json(), whole);
    assert_eq!(rhaiway.get("/stored").text(), "c2");
    assert_eq!(upstream.requests().len(), 5);
}

#[test]
fn v27_a_list_without_an_end_is_an_error_after_one_repeat() {
    let upstream = Upstream::serving(lists);
    let (_project, rhaiway) = shop(&upstream, LISTS, LISTING);
    for (path, requests) in [("/same", 2), ("/round", 3)] {
        assert_eq!(rhaiway.get(path).code(), "SCRIPT_ERROR");
        rhaiway.wait_for_log(&format!("shop.{}.list` names a page again that", &path[1..]));
        assert_eq!(paths(&upstream, path).len(), requests, "{path}");
    }
    assert_eq!(rhaiway.get("/none").code(), "SCRIPT_ERROR");
    rhaiway.wait_for_log("the answer of `shop.none.list` has no list");
    // What a page throws is caught as the first call's errors are.
    assert_eq!(rhaiway.get("/fails").json(), json!([1, 2, "NOT_FOUND"]));
}

#[test]
fn v27_a_next_page_elsewhere_is_refused_and_nothing_is_sent_there() {
    let upstream = Upstream::serving(lists);
    let other = echo();
    let (_project, rhaiway) = shop(&upstream, LISTS, LISTING);
    let (here, there) = (upstream.address(), other.url());
    for to in [
        format!("{there}/api/x"),
        format!("http://localhost:{}@{}/api/x", here.port(), other.address()),
        format!("{}/other", upstream.url()),
        format!("{}/api/../x", upstream.url()),
        format!("https://localhost:{}/api/x", here.port()),
        format!("//{}/api/x", other.address()),
        "file:///etc/passwd".to_owned(),
    ] {
        let error = rhaiway.get(&format!("/away?to={}", to.replace('&', "%26"))).json();
        assert_eq!(error["code"], "SERVICE_UNAVAILABLE", "{to}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("the next page of its list would be elsewhere"),
            "{to}: {message}"
        );
    }
    assert_eq!((other.connections(), paths(&upstream, "/away").len()), (0, 7));
    assert_eq!(upstream.requests().len(), 7);
}
