//! The stand-ins for Clerk, Stripe and OpenAI answer in the shapes that the real APIs document, errors included, and misbehave as they are told.

use serde_json::{Value, json};

use crate::support::{Project, Response, SECRET, StandIn, eventually, pay, request, token};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("content-type", "application/json");

/// Whether `value` has everything that `shape` has: a type by its name, a list by its first element, anything else as it is.
fn has_shape(value: &Value, shape: &Value) -> Result<(), String> {
    let fault = || Err(format!("{value} is not {shape}"));
    match shape {
        Value::String(kind) => {
            let is_kind = match kind.as_str() {
                "string" => value.is_string(),
                "number" => value.is_number(),
                "boolean" => value.is_boolean(),
                "object" => value.is_object(),
                "array" => value.is_array(),
                "null" => value.is_null(),
                prefix => value.as_str().is_some_and(|text| text.starts_with(prefix)),
            };
            if is_kind { Ok(()) } else { fault() }
        }
        Value::Object(fields) => fields.iter().try_for_each(|(name, shape)| {
            let Some(value) = value.get(name) else {
                return Err(format!("no `{name}` in {value}"));
            };
            has_shape(value, shape).map_err(|error| format!("{name}: {error}"))
        }),
        Value::Array(shapes) => {
            let (Some(shape), Some(values)) = (shapes.first(), value.as_array()) else {
                return fault();
            };
            if values.is_empty() {
                return fault();
            }
            values.iter().try_for_each(|value| has_shape(value, shape))
        }
        shape if shape == value => Ok(()),
        _ => fault(),
    }
}

fn check(value: &Value, shape: &Value) {
    has_shape(value, shape).unwrap_or_else(|error| panic!("{error}\nin {value:#}"));
}

/// The events of a stream: the name, where it has one, and the data.
fn events(response: &Response) -> Vec<(Option<String>, String)> {
    assert!(response.header("content-type").unwrap().starts_with("text/event-stream"));
    let event = |text: &str| {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_start_matches(':').trim_start().to_owned())
        };
        (field("event"), field("data").expect("an event has data"))
    };
    response.text().split("\n\n").filter(|text| !text.is_empty()).map(event).collect()
}

fn chat(openai: &StandIn, more: &Value) -> Response {
    let mut body = json!({ "model": "gpt-5-mini", "messages": [{ "role": "user", "content": "hello there" }] });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    openai.ask("POST", "/v1/chat/completions", &[JSON], &body.to_string())
}

#[test]
fn stripe_makes_finds_changes_and_deletes_what_it_was_told() {
    let stripe = StandIn::start("stripe");
    let customer = stripe.form(
        200,
        "POST",
        "/v1/customers",
        "email=ada%40example.com&name=Ada&metadata[order]=6735&address[city]=London",
    );
    check(
        &customer,
        &json!({
            "id": "cus_", "object": "customer", "created": "number", "livemode": false, "email": "ada@example.com",
            "metadata": { "order": "6735" }, "address": { "city": "London" }, "balance": 0, "phone": null,
        }),
    );
    let path = format!("/v1/customers/{}", customer["id"].as_str().unwrap());
    let changed = stripe.form(200, "POST", &path, "metadata[order]=&metadata[plan]=pro&name=");
    check(&changed, &json!({ "metadata": { "plan": "pro" }, "name": null }));
    assert_eq!(changed["metadata"].get("order"), None);
    assert_eq!(stripe.form(200, "GET", &path, ""), changed);
    check(
        &stripe.form(200, "DELETE", &path, ""),
        &json!({ "object": "customer", "deleted": true }),
    );
    let gone = stripe.form(404, "GET", &path, "");
    check(
        &gone,
        &json!({ "error": {
            "type": "invalid_request_error", "code": "resource_missing", "param": "id", "message": "No such customer: 'cus_",
            "request_log_url": "https://", "doc_url": "https://stripe.com/docs/error-codes/resource-missing",
        } }),
    );
    let told = stripe.form(200, "GET", "/v1/events?type=customer.deleted", "");
    check(
        &told,
        &json!({ "object": "list", "data": [{ "object": "event", "data": { "object": { "object": "customer" } } }] }),
    );
}

#[test]
fn stripe_refuses_as_it_documents() {
    let stripe = StandIn::start("stripe");
    let check_error = |status: u16, method: &str, path: &str, body: &str, shape: Value| {
        check(&stripe.form(status, method, path, body)["error"], &shape);
    };
    check_error(
        400,
        "POST",
        "/v1/customers",
        "colour=red",
        json!({ "code": "parameter_unknown", "param": "colour", "message": "Received unknown parameter: colour" }),
    );
    check_error(
        400,
        "POST",
        "/v1/payment_intents",
        "amount=x&currency=usd",
        json!({ "code": "parameter_invalid_integer", "param": "amount", "message": "Invalid integer: x" }),
    );
    check_error(
        400,
        "POST",
        "/v1/payment_intents",
        "amount=2000",
        json!({ "code": "parameter_missing", "param": "currency", "message": "Missing required param: currency." }),
    );
    check_error(
        404,
        "GET",
        "/v1/nothing",
        "",
        json!({ "type": "invalid_request_error", "message": "Unrecognized request URL (GET: /v1/nothing)" }),
    );
    check_error(
        400,
        "GET",
        "/v1/customers?limit=101",
        "",
        json!({ "code": "parameter_invalid_integer", "param": "limit" }),
    );
    check_error(
        400,
        "POST",
        "/v1/subscriptions",
        "customer=cus_x&items[0][price]=p",
        json!({ "code": "resource_missing", "param": "customer" }),
    );
    let as_json = stripe.ask("POST", "/v1/customers", &[JSON], "{}");
    assert_eq!(as_json.status, 400);
    for (key, message) in [
        ("Bearer sk_wrong_0123456789abcd", "Invalid API Key provided: sk_wrong****abcd"),
        ("Basic Og==", "You did not provide an API key."),
    ] {
        let refused = stripe.ask("GET", "/v1/customers", &[("authorization", key)], "");
        assert_eq!(refused.status, 401);
        check(
            &refused.json()["error"],
            &json!({ "type": "invalid_request_error", "message": message }),
        );
    }
    // The key as the user of Basic, as curl's `-u` sends it.
    let basic =
        stripe.ask("GET", "/v1/customers", &[("authorization", "Basic c2tfdGVzdF94Og==")], "");
    assert_eq!(basic.status, 200);
    assert!(basic.header("request-id").unwrap().starts_with("req_"));
    assert!(basic.header("stripe-version").is_some());
}

#[test]
fn stripe_s_pages_follow_each_other_to_the_last() {
    let stripe = StandIn::start("stripe");
    for number in 0..5 {
        stripe.form(
            200,
            "POST",
            "/v1/products",
            &format!("name=p{number}&metadata[group]={}", number % 2),
        );
    }
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let page = stripe.form(200, "GET", &format!("/v1/products?limit=2{after}"), "");
        check(&page, &json!({ "object": "list", "url": "/v1/products", "data": ["object"] }));
        let items = page["data"].as_array().unwrap();
        names.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        if page["has_more"] == false {
            break;
        }
        after = format!("&starting_after={}", items.last().unwrap()["id"].as_str().unwrap());
    }
    assert_eq!(names, ["p4", "p3", "p2", "p1", "p0"]);
    let found = stripe.form(
        200,
        "GET",
        "/v1/products/search?query=metadata%5B%27group%27%5D%3A%271%27",
        "",
    );
    check(&found, &json!({ "object": "search_result", "has_more": false, "next_page": null }));
    assert_eq!(found["data"].as_array().unwrap().len(), 2);
}

#[test]
fn stripe_carries_out_a_key_once_and_gives_its_answer_again() {
    let stripe = StandIn::start("stripe");
    let create = |key: &str, body: &str| {
        stripe.ask("POST", "/v1/customers", &[FORM, ("idempotency-key", key)], body)
    };
    let first = create("k1", "name=Ada");
    let again = create("k1", "name=Ada");
    assert_eq!((first.status, &first.body), (again.status, &again.body));
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("original-request"), first.header("request-id"));
    let other = create("k1", "name=Grace");
    assert_eq!(other.status, 400);
    check(
        &other.json()["error"],
        &json!({ "type": "idempotency_error", "message": "Keys for idempotent requests can only be used with the same parameters" }),
    );
    let elsewhere =
        stripe.ask("POST", "/v1/products", &[FORM, ("idempotency-key", "k1")], "name=Ada");
    check(
        &elsewhere.json()["error"],
        &json!({ "type": "idempotency_error", "message": "Keys for idempotent requests can only be used for the same endpoint" }),
    );
    // What was refused before it was carried out is not kept under its key.
    assert_eq!(create("k2", "colour=red").status, 400);
    assert_eq!(create("k2", "name=Ada").status, 200);
    // What failed while it was carried out is.
    let pay = |key: &str| {
        let body = "amount=2000&currency=usd&payment_method=pm_card_chargeDeclined&confirm=true";
        stripe.ask("POST", "/v1/payment_intents", &[FORM, ("idempotency-key", key)], body)
    };
    let (declined, again) = (pay("k3"), pay("k3"));
    assert_eq!((declined.status, &declined.body), (402, &again.body));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    check(
        &declined.json()["error"],
        &json!({ "type": "card_error", "code": "card_declined", "decline_code": "generic_decline", "payment_intent": { "status": "requires_payment_method" } }),
    );
    assert_eq!(stripe.form(200, "GET", "/v1/customers", "")["data"].as_array().unwrap().len(), 2);
    assert_eq!(
        stripe.form(200, "GET", "/v1/payment_intents", "")["data"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn stripe_refuses_a_key_whose_request_is_under_way_and_remembers_one_whose_answer_was_lost() {
    let stripe = StandIn::start("stripe");
    let key = |key| [FORM, ("idempotency-key", key)];
    stripe.behave(&json!({ "latency_ms": 3_000 }));
    let _under_way = stripe.begin("POST", "/v1/customers", &key("k1"), "name=Ada");
    eventually("it has come", || (!stripe.requests().is_empty()).then_some(()));
    stripe.behave(&json!({}));
    let second = stripe.ask("POST", "/v1/customers", &key("k1"), "name=Ada");
    assert_eq!(second.status, 409);
    check(
        &second.json()["error"],
        &json!({ "type": "idempotency_error", "code": "idempotency_key_in_use" }),
    );

    stripe.behave(&json!({ "lose": 1 }));
    let mut lost = stripe.begin("POST", "/v1/products", &key("k2"), "name=Lamp");
    assert!(lost.read().is_err());
    let again = stripe.ask("POST", "/v1/products", &key("k2"), "name=Lamp");
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!(stripe.form(200, "GET", "/v1/products", "")["data"].as_array().unwrap().len(), 1);
}

#[test]
fn stripe_takes_a_payment_from_checkout_to_refund() {
    let stripe = StandIn::start("stripe");
    let price = stripe.form(
        200,
        "POST",
        "/v1/prices",
        "currency=eur&unit_amount=1250&product_data[name]=Lamp",
    );
    check(
        &price,
        &json!({ "id": "price_", "type": "one_time", "unit_amount": 1250, "product": "prod_" }),
    );
    let session = stripe.form(
        200,
        "POST",
        "/v1/checkout/sessions",
        &format!("mode=payment&success_url=https%3A%2F%2Fexample.com&line_items[0][price]={}&line_items[0][quantity]=2&client_reference_id=order_7", price["id"].as_str().unwrap()),
    );
    check(
        &session,
        &json!({
            "id": "cs_test_", "object": "checkout.session", "url": "https://checkout.stripe.com/c/pay/cs_test_", "status": "open",
            "payment_status": "unpaid", "amount_total": 2500, "currency": "eur", "client_reference_id": "order_7", "payment_intent": null,
        }),
    );
    let id = session["id"].as_str().unwrap();
    let items = stripe.form(200, "GET", &format!("/v1/checkout/sessions/{id}/line_items"), "");
    check(
        &items,
        &json!({ "object": "list", "data": [{ "object": "item", "quantity": 2, "amount_total": 2500 }] }),
    );
    let event = pay(&stripe, id);
    check(
        &event,
        &json!({ "object": "event", "type": "checkout.session.completed", "data": { "object": { "status": "complete", "payment_status": "paid", "payment_intent": "pi_" } } }),
    );
    let payment = event["data"]["object"]["payment_intent"].as_str().unwrap();
    let paid =
        stripe.form(200, "GET", &format!("/v1/payment_intents/{payment}?expand[]=customer"), "");
    check(
        &paid,
        &json!({ "status": "succeeded", "amount_received": 2500, "currency": "eur", "latest_charge": "ch_", "client_secret": format!("{payment}_secret_") }),
    );
    let refund = stripe.form(200, "POST", "/v1/refunds", &format!("payment_intent={payment}"));
    check(
        &refund,
        &json!({ "id": "re_", "object": "refund", "amount": 2500, "status": "succeeded" }),
    );
    let twice = stripe.form(400, "POST", "/v1/refunds", &format!("payment_intent={payment}"));
    assert_eq!(twice["error"]["code"], "charge_already_refunded");
}

#[test]
fn stripe_s_subscriptions_invoices_and_cards_change_state_as_documented() {
    let stripe = StandIn::start("stripe");
    let id = |object: &Value| object["id"].as_str().unwrap().to_owned();
    let customer = id(&stripe.form(200, "POST", "/v1/customers", "name=Ada"));
    let price = id(&stripe.form(
        200,
        "POST",
        "/v1/prices",
        "currency=usd&unit_amount=900&recurring[interval]=month&product_data[name]=Plan",
    ));
    let subscription = stripe.form(
        200,
        "POST",
        "/v1/subscriptions",
        &format!("customer={customer}&items[0][price]={price}&expand[]=customer"),
    );
    check(
        &subscription,
        &json!({ "id": "sub_", "status": "active", "customer": { "name": "Ada" }, "items": { "object": "list", "data": [{ "object": "subscription_item", "price": { "id": price, "type": "recurring" } }] } }),
    );
    let ended = stripe.form(200, "DELETE", &format!("/v1/subscriptions/{}", id(&subscription)), "");
    check(&ended, &json!({ "status": "canceled", "canceled_at": "number" }));
    assert_eq!(stripe.form(200, "GET", "/v1/subscriptions", "")["data"], json!([]));

    let invoice = id(&stripe.form(200, "POST", "/v1/invoices", &format!("customer={customer}")));
    let act = |status, act: &str| {
        stripe.form(status, "POST", &format!("/v1/invoices/{invoice}/{act}"), "")
    };
    assert_eq!(act(400, "void")["error"]["code"], "invoice_not_editable");
    check(
        &act(200, "finalize"),
        &json!({ "status": "open", "number": "string", "hosted_invoice_url": "https://invoice.stripe.com/" }),
    );
    check(&act(200, "pay"), &json!({ "status": "paid", "amount_remaining": 0 }));
    assert_eq!(act(400, "pay")["error"]["code"], "invoice_already_paid");

    let card = stripe.form(
        200,
        "POST",
        "/v1/payment_methods/pm_card_visa/attach",
        &format!("customer={customer}"),
    );
    check(
        &card,
        &json!({ "id": "pm_", "object": "payment_method", "customer": customer, "card": { "last4": "4242", "brand": "visa" } }),
    );
    let cards =
        stripe.form(200, "GET", &format!("/v1/payment_methods?customer={customer}&type=card"), "");
    assert_eq!(cards["data"].as_array().unwrap().len(), 1);
    let portal =
        stripe.form(200, "POST", "/v1/billing_portal/sessions", &format!("customer={customer}"));
    check(
        &portal,
        &json!({ "id": "bps_", "object": "billing_portal.session", "url": "https://billing.stripe.com/" }),
    );

    let held = id(&stripe.form(
        200,
        "POST",
        "/v1/payment_intents",
        "amount=500&currency=usd&capture_method=manual",
    ));
    let step = |status, act: &str, body: &str| {
        stripe.form(status, "POST", &format!("/v1/payment_intents/{held}/{act}"), body)
    };
    assert_eq!(step(400, "confirm", "")["error"]["code"], "payment_intent_unexpected_state");
    check(
        &step(200, "confirm", "payment_method=pm_card_visa"),
        &json!({ "status": "requires_capture", "amount_capturable": 500 }),
    );
    check(
        &step(200, "capture", "amount_to_capture=400"),
        &json!({ "status": "succeeded", "amount_received": 400 }),
    );
    assert_eq!(step(400, "cancel", "")["error"]["code"], "payment_intent_unexpected_state");
}

#[test]
fn openai_completes_a_chat_whole_and_in_pieces() {
    let openai = StandIn::start("openai");
    let whole = chat(&openai, &json!({}));
    assert_eq!(whole.status, 200);
    check(
        &whole.json(),
        &json!({
            "id": "chatcmpl-", "object": "chat.completion", "created": "number", "model": "gpt-5-mini",
            "choices": [{ "index": 0, "finish_reason": "stop", "logprobs": null, "message": { "role": "assistant", "content": "You said: hello there", "refusal": null } }],
            "usage": { "prompt_tokens": "number", "completion_tokens": 4, "total_tokens": "number" },
        }),
    );
    for (name, value) in [
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-limit-tokens", "2000000"),
        ("openai-version", "2020-10-01"),
    ] {
        assert_eq!(whole.header(name), Some(value), "{name}");
    }
    assert!(whole.header("x-request-id").unwrap().starts_with("req_"));

    let streamed =
        chat(&openai, &json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let events = events(&streamed);
    assert_eq!(events.last().unwrap(), &(None, "[DONE]".to_owned()));
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|(_, data)| serde_json::from_str(data).unwrap())
        .collect();
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk"
                && chunk["id"] == chunks[0]["id"])
    );
    assert_eq!(
        chunks[0]["choices"][0]["delta"],
        json!({ "role": "assistant", "content": "", "refusal": null })
    );
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "You said: hello there");
    let [.., end, usage] = chunks.as_slice() else { panic!("{chunks:?}") };
    assert_eq!(
        (&end["choices"][0]["finish_reason"], &end["choices"][0]["delta"], &end["usage"]),
        (&json!("stop"), &json!({}), &Value::Null)
    );
    assert_eq!(usage["choices"], json!([]));
    check(
        &usage["usage"],
        &json!({ "prompt_tokens": "number", "completion_tokens": 4, "total_tokens": "number" }),
    );
    // Without being asked for it, no chunk speaks of usage.
    assert!(!chat(&openai, &json!({ "stream": true })).text().contains("usage"));
    let cut = chat(&openai, &json!({ "max_completion_tokens": 2 })).json();
    check(
        &cut["choices"],
        &json!([{ "finish_reason": "length", "message": { "content": "You said: " } }]),
    );
}

#[test]
fn openai_calls_tools_whole_and_in_pieces_until_they_have_answered() {
    let openai = StandIn::start("openai");
    let ask = json!({ "role": "user", "content": r#"use get_weather with {"city":"Paris"}"# });
    let tools = json!([{ "type": "function", "function": { "name": "get_weather", "parameters": { "type": "object", "required": ["city"] } } }]);
    let whole = chat(&openai, &json!({ "messages": [ask], "tools": tools })).json();
    check(
        &whole["choices"],
        &json!([{ "finish_reason": "tool_calls", "message": { "content": null, "tool_calls": [{ "id": "call_", "type": "function", "function": { "name": "get_weather", "arguments": r#"{"city":"Paris"}"# } }] } }]),
    );

    let streamed = chat(&openai, &json!({ "messages": [ask], "tools": tools, "stream": true }));
    let (mut arguments, mut names, mut pieces) = (String::new(), Vec::new(), 0);
    for (_, data) in events(&streamed).iter().filter(|(_, data)| data != "[DONE]") {
        let chunk: Value = serde_json::from_str(data).unwrap();
        let call = &chunk["choices"][0]["delta"]["tool_calls"][0];
        if call["index"] == 0 {
            pieces += 1;
            arguments.push_str(call["function"]["arguments"].as_str().unwrap());
            names.extend(call["function"]["name"].as_str().map(str::to_owned));
        }
    }
    assert_eq!(
        (arguments.as_str(), names.as_slice()),
        (r#"{"city":"Paris"}"#, &["get_weather".to_owned()][..])
    );
    assert!(pieces > 2);
    let call = &whole["choices"][0]["message"];
    let result = json!({ "role": "tool", "tool_call_id": call["tool_calls"][0]["id"], "content": "18 degrees" });
    let last = chat(&openai, &json!({ "messages": [ask, call, result], "tools": tools })).json();
    assert_eq!(last["choices"][0]["message"]["content"], "The tool said: 18 degrees");
}

#[test]
fn openai_responds_whole_and_in_named_events() {
    let openai = StandIn::start("openai");
    let whole =
        openai.json(200, "POST", "/v1/responses", &json!({ "model": "gpt-5", "input": "hello" }));
    check(
        &whole,
        &json!({
            "id": "resp_", "object": "response", "status": "completed", "error": null, "model": "gpt-5",
            "output": [{ "type": "message", "role": "assistant", "status": "completed", "content": [{ "type": "output_text", "text": "You said: hello" }] }],
            "usage": { "input_tokens": "number", "output_tokens": 3, "total_tokens": "number", "output_tokens_details": { "reasoning_tokens": 0 } },
        }),
    );
    let path = format!("/v1/responses/{}", whole["id"].as_str().unwrap());
    assert_eq!(openai.json(200, "GET", &path, &Value::Null), whole);
    let body = json!({ "model": "gpt-5", "input": [{ "role": "user", "content": "hello" }], "stream": true });
    let streamed = openai.ask("POST", "/v1/responses", &[JSON], &body.to_string());
    let events = events(&streamed);
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_deref().unwrap()).collect();
    assert_eq!(
        names,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    for (number, (name, data)) in events.iter().enumerate() {
        let event: Value = serde_json::from_str(data).unwrap();
        assert_eq!((&event["type"], &event["sequence_number"]), (&json!(name), &json!(number)));
    }
    let tools = json!([{ "type": "function", "name": "get_weather", "parameters": {} }]);
    let body =
        json!({ "model": "gpt-5", "input": "get_weather {\"city\":\"Rome\"}", "tools": tools });
    let called = openai.json(200, "POST", "/v1/responses", &body);
    check(
        &called["output"],
        &json!([{ "type": "function_call", "call_id": "call_", "name": "get_weather", "arguments": r#"{"city":"Rome"}"# }]),
    );
}

#[test]
fn openai_embeds_moderates_paints_hears_and_keeps_files() {
    let openai = StandIn::start("openai");
    let body =
        json!({ "model": "text-embedding-3-small", "input": ["a", "a", "b"], "dimensions": 4 });
    let embedded = openai.json(200, "POST", "/v1/embeddings", &body);
    check(
        &embedded,
        &json!({ "object": "list", "data": [{ "object": "embedding", "index": "number", "embedding": ["number"] }], "model": "text-embedding-3-small", "usage": { "prompt_tokens": "number" } }),
    );
    let vector = |index: usize| &embedded["data"][index]["embedding"];
    assert_eq!(vector(0), vector(1));
    assert_ne!(vector(0), vector(2));
    let body = json!({ "model": "text-embedding-3-small", "input": "a", "encoding_format": "base64", "dimensions": 3 });
    assert_eq!(
        openai.json(200, "POST", "/v1/embeddings", &body)["data"][0]["embedding"]
            .as_str()
            .unwrap()
            .len(),
        16
    );

    check(
        &openai.json(200, "GET", "/v1/models", &Value::Null),
        &json!({ "object": "list", "data": [{ "object": "model", "id": "string", "created": "number", "owned_by": "system" }] }),
    );
    let moderated =
        openai.json(200, "POST", "/v1/moderations", &json!({ "input": "I will kill you" }));
    check(
        &moderated,
        &json!({ "id": "modr-", "results": [{ "flagged": true, "categories": { "violence": true, "hate": false }, "category_scores": { "violence": 0.98 } }] }),
    );
    check(
        &openai.json(200, "POST", "/v1/images/generations", &json!({ "prompt": "a dot" })),
        &json!({ "created": "number", "data": [{ "b64_json": "iVBORw0KGgo" }] }),
    );

    let multipart = |fields: &[(&str, &str)], content: &str| {
        let mut body = String::new();
        for (name, value) in fields {
            body.push_str(&format!(
                "--X\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            ));
        }
        format!(
            "{body}--X\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\ncontent-type: text/plain\r\n\r\n{content}\r\n--X--\r\n"
        )
    };
    let send = |path: &str, body: &str| {
        openai.ask("POST", path, &[("content-type", "multipart/form-data; boundary=X")], body)
    };
    let file = send("/v1/files", &multipart(&[("purpose", "batch")], "one\r\ntwo")).json();
    check(
        &file,
        &json!({ "id": "file-", "object": "file", "bytes": 8, "filename": "a.jsonl", "purpose": "batch", "status": "processed" }),
    );
    let path = format!("/v1/files/{}", file["id"].as_str().unwrap());
    assert_eq!(openai.ask("GET", &format!("{path}/content"), &[], "").text(), "one\r\ntwo");
    check(
        &openai.json(200, "GET", "/v1/files?limit=1", &Value::Null),
        &json!({ "object": "list", "data": [{ "id": file["id"] }], "has_more": false, "last_id": file["id"] }),
    );
    check(&openai.json(200, "DELETE", &path, &Value::Null), &json!({ "deleted": true }));
    assert_eq!(openai.json(404, "GET", &path, &Value::Null)["error"]["param"], "id");
    let heard = send("/v1/audio/transcriptions", &multipart(&[("model", "whisper-1")], "la la"));
    assert_eq!(heard.json()["text"], "5 bytes of sound.");
}

#[test]
fn openai_refuses_as_it_documents() {
    let openai = StandIn::start("openai");
    let check_error = |answer: &Response, status: u16, shape: Value| {
        assert_eq!(answer.status, status, "{}", answer.text());
        let error = answer.json()["error"].clone();
        check(&error, &shape);
        assert_eq!(
            error.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["code", "message", "param", "type"]
        );
    };
    let missing = openai.ask("GET", "/v1/models", &[("authorization", "Bearer ")], "");
    check_error(
        &missing,
        401,
        json!({ "type": "invalid_request_error", "message": "You didn't provide an API key.", "code": null, "param": null }),
    );
    let wrong = openai.ask("GET", "/v1/models", &[("authorization", "Bearer pk-wrong")], "");
    check_error(
        &wrong,
        401,
        json!({ "code": "invalid_api_key", "message": "Incorrect API key provided: pk-w" }),
    );
    check_error(
        &chat(&openai, &json!({ "model": "gpt-99" })),
        404,
        json!({ "code": "model_not_found", "message": "The model `gpt-99` does not exist" }),
    );
    check_error(
        &chat(&openai, &json!({ "messages": [] })),
        400,
        json!({ "code": "empty_array", "param": "messages" }),
    );
    check_error(
        &chat(&openai, &json!({ "messages": [{ "role": "king", "content": "x" }] })),
        400,
        json!({ "code": "invalid_value", "param": "messages[0].role" }),
    );
    check_error(
        &openai.ask("POST", "/v1/chat/completions", &[JSON], "{"),
        400,
        json!({ "message": "We could not parse the JSON body of your request." }),
    );
    check_error(
        &openai.ask("GET", "/v1/nothing", &[], ""),
        404,
        json!({ "message": "Invalid URL (GET /v1/nothing)" }),
    );
    openai.behave(&json!({ "rate_limit": { "per_second": 1 } }));
    let first = chat(&openai, &json!({}));
    assert_eq!(
        (
            first.status,
            first.header("x-ratelimit-limit-requests"),
            first.header("x-ratelimit-remaining-requests")
        ),
        (200, Some("1"), Some("0"))
    );
    let limited = eventually("it is too much", || {
        let answer = chat(&openai, &json!({}));
        (answer.status != 200).then_some(answer)
    });
    check_error(&limited, 429, json!({ "code": "rate_limit_exceeded", "type": "requests" }));
    assert_eq!(
        (limited.header("retry-after"), limited.header("x-ratelimit-remaining-requests")),
        (Some("1"), Some("0"))
    );
}

#[test]
fn clerk_keeps_users_organisations_and_memberships() {
    let clerk = StandIn::start("clerk");
    let null = Value::Null;
    let user = clerk.json(200, "POST", "/v1/users", &json!({ "email_address": ["grace@example.com"], "first_name": "Grace", "public_metadata": { "a": { "b": 1 } } }));
    check(
        &user,
        &json!({ "id": "user_", "object": "user", "first_name": "Grace", "email_addresses": [{ "id": user["primary_email_address_id"], "email_address": "grace@example.com", "verification": { "status": "verified" } }], "created_at": "number", "banned": false }),
    );
    let path = format!("/v1/users/{}", user["id"].as_str().unwrap());
    let merged = clerk.json(
        200,
        "PATCH",
        &format!("{path}/metadata"),
        &json!({ "public_metadata": { "a": { "c": 2 }, "d": null } }),
    );
    assert_eq!(merged["public_metadata"], json!({ "a": { "b": 1, "c": 2 } }));
    assert_eq!(
        clerk.json(200, "PATCH", &path, &json!({ "last_name": "Hopper" }))["last_name"],
        "Hopper"
    );
    let list = clerk.json(200, "GET", "/v1/users?limit=1&offset=1", &null);
    assert_eq!((list.as_array().unwrap().len(), &list[0]["id"]), (1, &json!("user_ada")));
    assert_eq!(
        clerk.json(200, "GET", "/v1/users?email_address=grace%40example.com", &null)[0]["id"],
        user["id"]
    );
    check(
        &clerk.json(200, "GET", "/v1/users/count", &null),
        &json!({ "object": "total_count", "total_count": 2 }),
    );

    let organization = clerk.json(
        200,
        "POST",
        "/v1/organizations",
        &json!({ "name": "The Navy", "created_by": user["id"] }),
    );
    check(
        &organization,
        &json!({ "id": "org_", "object": "organization", "slug": "the-navy", "members_count": 1 }),
    );
    let members = format!("/v1/organizations/{}/memberships", organization["id"].as_str().unwrap());
    let member =
        clerk.json(200, "POST", &members, &json!({ "user_id": "user_ada", "role": "org:member" }));
    check(
        &member,
        &json!({ "id": "orgmem_", "role": "org:member", "public_user_data": { "user_id": "user_ada", "identifier": "ada@example.com" }, "organization": { "id": organization["id"] } }),
    );
    check(
        &clerk.json(200, "GET", &members, &null),
        &json!({ "data": ["object"], "total_count": 2 }),
    );
    assert_eq!(
        clerk.json(200, "PATCH", &format!("{members}/user_ada"), &json!({ "role": "org:admin" }))["role"],
        "org:admin"
    );
    clerk.json(200, "DELETE", &format!("{members}/user_ada"), &null);
    assert_eq!(
        clerk.json(200, "GET", "/v1/users/user_ada/organization_memberships", &null)["total_count"],
        0
    );

    check(
        &clerk.json(200, "DELETE", &path, &null),
        &json!({ "object": "user", "deleted": true, "id": user["id"] }),
    );
    let gone = clerk.json(404, "GET", &path, &null);
    check(
        &gone,
        &json!({ "errors": [{ "code": "resource_not_found", "message": "Resource not found", "long_message": "No user was found with id user_" }], "clerk_trace_id": "string" }),
    );
}

#[test]
fn clerk_refuses_as_it_documents() {
    let clerk = StandIn::start("clerk");
    let check_error = |answer: &Response, status: u16, shape: Value| {
        assert_eq!(answer.status, status, "{}", answer.text());
        check(&answer.json(), &json!({ "errors": [shape], "clerk_trace_id": "string" }));
    };
    let key = |key| [("authorization", key)];
    check_error(
        &clerk.ask("GET", "/v1/users", &key("Bearer nonsense"), ""),
        401,
        json!({ "code": "clerk_key_invalid", "long_message": "string" }),
    );
    check_error(
        &clerk.ask("GET", "/v1/users", &key("Basic x"), ""),
        401,
        json!({ "code": "authorization_header_format_invalid" }),
    );
    let create = |body: &str| clerk.ask("POST", "/v1/users", &[JSON], body);
    check_error(
        &create("{}"),
        422,
        json!({ "code": "form_param_missing", "meta": { "param_name": "email_address" } }),
    );
    check_error(
        &create(r#"{ "email_address": ["ada@example.com"] }"#),
        422,
        json!({ "code": "form_identifier_exists" }),
    );
    check_error(&create("["), 400, json!({ "code": "request_body_invalid" }));
    check_error(
        &clerk.ask("GET", "/v1/users?limit=501", &[], ""),
        422,
        json!({ "code": "form_param_value_invalid", "meta": { "param_name": "limit" } }),
    );
    clerk.behave(&json!({ "rate_limit": { "per_second": 1 } }));
    let limited = eventually("it is too much", || {
        let answer = clerk.ask("GET", "/v1/users", &[], "");
        (answer.status != 200).then_some(answer)
    });
    check_error(&limited, 429, json!({ "code": "too_many_requests" }));
    assert_eq!(limited.header("retry-after"), Some("1"));
}

#[test]
fn clerk_issues_tokens_that_its_key_set_verifies() {
    let clerk = StandIn::start("clerk");
    let keys = || request(clerk.address(), "GET", "/.well-known/jwks.json", &[], b"").json();
    check(
        &keys(),
        &json!({ "keys": [{ "kty": "RSA", "alg": "RS256", "use": "sig", "kid": "ins_", "n": "string", "e": "AQAB" }] }),
    );
    let verifies = |token: &str| {
        let parts: Vec<&str> = token.split('.').collect();
        let decode = |text: &str| base64_url(text);
        let header: Value = serde_json::from_slice(&decode(parts[0])).unwrap();
        let keys = keys();
        let key = keys["keys"]
            .as_array()
            .unwrap()
            .iter()
            .find(|key| key["kid"] == header["kid"])
            .unwrap()
            .clone();
        let number = |name: &str| decode(key[name].as_str().unwrap());
        let public = ring::signature::RsaPublicKeyComponents { n: number("n"), e: number("e") };
        let signed = format!("{}.{}", parts[0], parts[1]);
        let algorithm = &ring::signature::RSA_PKCS1_2048_8192_SHA256;
        let claims: Value = serde_json::from_slice(&decode(parts[1])).unwrap();
        (public.verify(algorithm, signed.as_bytes(), &decode(parts[2])).is_ok(), claims)
    };
    let (is_right, claims) = verifies(&token(
        &clerk,
        &json!({ "azp": "http://localhost:5173", "claims": { "email": "ada@example.com" } }),
    ));
    assert!(is_right);
    check(
        &claims,
        &json!({ "iss": clerk.url(), "sub": "user_ada", "sid": "sess_", "azp": "http://localhost:5173", "email": "ada@example.com", "exp": "number" }),
    );
    assert!(!verifies(&token(&clerk, &json!({ "bad_signature": true }))).0);
    let session = clerk.json(200, "POST", "/v1/sessions", &json!({ "user_id": "user_ada" }));
    let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
    let issued = clerk.json(200, "POST", &format!("{path}/tokens"), &Value::Null);
    let (is_right, claims) = verifies(issued["jwt"].as_str().unwrap());
    assert!(is_right && claims["sid"] == session["id"]);
    // A key that signs from now on is published, and the one before is not withdrawn.
    clerk.control("POST", "rotate", &Value::Null);
    assert_eq!(keys()["keys"].as_array().unwrap().len(), 2);
    assert!(verifies(&token(&clerk, &json!({}))).0);
    assert_eq!(
        clerk.json(200, "POST", &format!("{path}/revoke"), &Value::Null)["status"],
        "revoked"
    );
    assert_eq!(
        clerk.json(422, "POST", &format!("{path}/tokens"), &Value::Null)["errors"][0]["code"],
        "session_not_active"
    );
}

#[test]
fn a_stand_in_misbehaves_as_it_is_told_and_then_behaves_again() {
    let openai = StandIn::start_with("openai", &["--fail", "503:1", "--latency", "1ms"]);
    assert_eq!(chat(&openai, &json!({})).status, 503);
    assert_eq!(chat(&openai, &json!({})).status, 200);
    openai.behave(&json!({ "fail": { "status": 429, "headers": { "retry-after": "abc" }, "body": "<html>" }, "only": "/v1/chat" }));
    let failed = chat(&openai, &json!({}));
    assert_eq!(
        (failed.status, failed.header("retry-after"), failed.text()),
        (429, Some("abc"), "<html>")
    );
    openai.json(200, "GET", "/v1/models", &Value::Null);
    openai.behave(&json!({ "down": true }));
    assert!(openai.begin("GET", "/v1/models", &[], "").is_closed());
    openai.behave(&json!({ "cut_stream_after": 2 }));
    let mut cut = openai.begin(
        "POST",
        "/v1/chat/completions",
        &[JSON],
        r#"{"model":"gpt-5","stream":true,"messages":[{"role":"user","content":"hello"}]}"#,
    );
    assert!(cut.read().is_err());
    openai.behave(&json!({}));
    assert_eq!(chat(&openai, &json!({})).status, 200);
    let refused = openai.control("POST", "behave", &json!({ "fial": {} }));
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("unknown field `fial`"), "{}", refused.text());
}

#[test]
fn a_stand_in_tells_what_it_was_asked_without_the_key() {
    let stripe = StandIn::start("stripe");
    stripe.form(200, "POST", "/v1/customers?x=1", "name=Ada");
    let requests = stripe.requests();
    check(
        &requests[0],
        &json!({ "method": "POST", "path": "/v1/customers", "query": [["string"]], "body": "name=Ada", "headers": { "authorization": "Bearer sk_test", "content-type": FORM.1 } }),
    );
    assert!(!requests[0].to_string().contains("of_a_test"));
    stripe.control("DELETE", "requests", &Value::Null);
    assert!(stripe.requests().is_empty());
}

#[test]
fn webhooks_of_a_stand_in_are_signed_as_their_sender_signs_them() {
    let config = r#"
[server]
listen = "127.0.0.1:0"

[webhooks.clerk]
path = "/hooks/clerk"
scheme = "svix"
secret_env = "CLERK_WEBHOOK_SECRET"

[webhooks.stripe]
path = "/hooks/stripe"
scheme = "stripe"
secret_env = "CLERK_WEBHOOK_SECRET"
"#;
    let script = r#"webhook("clerk", "user.created", |event| log.info(`clerk ${event.data.id}`)); webhook("stripe", "charge.refunded", |event| log.info(`stripe ${event.data.object.id}`));"#;
    let project = Project::with_config(config, script);
    let rhaiway = project.start();
    for (name, kind, data) in [
        ("clerk", "user.created", json!({ "id": "user_9" })),
        ("stripe", "charge.refunded", json!({ "id": "ch_9" })),
    ] {
        let stand_in = StandIn::start(name);
        let url = format!("http://{}/hooks/{name}", rhaiway.address());
        let order = json!({ "url": url, "secret": SECRET, "type": kind, "data": data });
        let said = stand_in.webhook(&order);
        assert_eq!(
            (&said["status"], &said["answer"]),
            (&json!(200), &json!(r#"{"received":true}"#)),
            "{said}"
        );
        let mut wrong = order.clone();
        wrong["secret"] = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into();
        assert_eq!(stand_in.webhook(&wrong)["status"], 401);
    }
    rhaiway.wait_for_log("clerk user_9");
    rhaiway.wait_for_log("stripe ch_9");
}

#[test]
fn the_command_is_hidden_and_refuses_what_is_no_third_party() {
    let project = Project::new("");
    let (help, _) = project.expect(0, &["--help"]);
    assert!(!help.contains("stand-in"), "{help}");
    let (_, refused) = project.expect(2, &["stand-in", "paypal"]);
    assert!(refused.contains("[possible values: clerk, stripe, openai]"), "{refused}");
}

fn base64_url(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).expect("base64")
}
