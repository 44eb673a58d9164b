//! Sample events: what senders really post, written from their public documentation with made-up people. They share their ids, so that
//! a user who is created can then be updated and deleted, and each later one has the later time. `verifier::headers` signs them.

use crate::json;

/// One event as its sender would post it.
struct Sample {
    kind: &'static str,
    body: &'static str,
}

/// Samples by the webhook's name.
const BY_WEBHOOK: [(&str, &[Sample]); 1] = [("clerk", &CLERK)];

/// For webhooks of these schemes without samples of their own: any type does, and the rest is what these senders have in common.
const WITH_ANY_TYPE: [&str; 3] = ["none", "standard-webhooks", "svix"];
const ANY_TYPE: &str = include_str!("samples/any.json");
/// Where the type goes in that sample.
const TYPE: &str = r#""TYPE""#;

/// How every id in a sample ends. The n-th copy has another number there.
const NUMBER: &str = "000000000001";

/// Source: <https://clerk.com/docs/guides/development/webhooks/overview> and the event catalogue in Clerk's dashboard.
const CLERK: [Sample; 9] = [
    Sample { kind: "user.created", body: include_str!("samples/clerk/user.created.json") },
    Sample { kind: "user.updated", body: include_str!("samples/clerk/user.updated.json") },
    Sample { kind: "user.deleted", body: include_str!("samples/clerk/user.deleted.json") },
    Sample { kind: "session.created", body: include_str!("samples/clerk/session.created.json") },
    Sample { kind: "session.ended", body: include_str!("samples/clerk/session.ended.json") },
    Sample {
        kind: "organization.created",
        body: include_str!("samples/clerk/organization.created.json"),
    },
    Sample {
        kind: "organization.updated",
        body: include_str!("samples/clerk/organization.updated.json"),
    },
    Sample {
        kind: "organization.deleted",
        body: include_str!("samples/clerk/organization.deleted.json"),
    },
    Sample {
        kind: "organizationMembership.created",
        body: include_str!("samples/clerk/organizationMembership.created.json"),
    },
];

/// The body of the sample number `number`, from 1, of a type. It is looked up by the webhook's name, then by its scheme.
pub(crate) fn body(webhook: &str, scheme: &str, kind: &str, number: u32) -> Option<String> {
    let text = match own(webhook) {
        Some(samples) => samples.iter().find(|sample| sample.kind == kind)?.body.to_owned(),
        None if WITH_ANY_TYPE.contains(&scheme) => {
            ANY_TYPE.replace(TYPE, &serde_json::Value::from(kind).to_string())
        }
        None => return None,
    };
    let text = text.replace(NUMBER, &format!("{number:012}"));
    String::from_utf8(json::compact(text.as_bytes())).ok()
}

/// The types that there are samples of; empty where there are none or where any type does.
pub(crate) fn kinds(webhook: &str) -> impl Iterator<Item = &'static str> {
    own(webhook).unwrap_or_default().iter().map(|sample| sample.kind)
}

fn own(webhook: &str) -> Option<&'static [Sample]> {
    BY_WEBHOOK.into_iter().find_map(|(name, samples)| (name == webhook).then_some(samples))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::webhook::scheme::Scheme;

    fn clerk(kind: &str) -> Value {
        serde_json::from_str(&body("clerk", "svix", kind, 1).unwrap()).unwrap()
    }

    #[test]
    fn each_sample_has_the_type_that_it_is_found_by_and_its_ids_can_be_numbered() {
        for (webhook, samples) in BY_WEBHOOK {
            for sample in samples {
                let first: Value =
                    serde_json::from_str(&body(webhook, "svix", sample.kind, 1).unwrap()).unwrap();
                assert_eq!(first["type"], sample.kind);
                let second = body(webhook, "svix", sample.kind, 2).unwrap();
                assert!(second.contains("000000000002") && !second.contains(NUMBER), "{second}");
                assert!(!second.contains('\n'));
            }
            assert_eq!(kinds(webhook).count(), samples.len());
        }
    }

    #[test]
    fn one_clerk_user_is_created_updated_and_deleted_in_this_order() {
        let events = ["user.created", "user.updated", "user.deleted"].map(clerk);
        assert!(events.iter().all(|event| event["data"]["id"] == events[0]["data"]["id"]));
        assert!(events.is_sorted_by_key(|event| event["timestamp"].as_i64().unwrap()));
        let [created, updated, deleted] = &events;
        assert!(created["data"]["updated_at"].as_i64() < updated["data"]["updated_at"].as_i64());
        assert_ne!(created["data"]["last_name"], updated["data"]["last_name"]);
        assert_eq!(
            created["data"]["primary_email_address_id"],
            created["data"]["email_addresses"][0]["id"]
        );
        let deleted = deleted["data"].as_object().unwrap();
        assert_eq!(deleted.keys().collect::<Vec<_>>(), ["deleted", "id", "object"]);
    }

    #[test]
    fn sessions_and_organisations_belong_to_that_user() {
        let user = &clerk("user.created")["data"]["id"];
        assert_eq!(&clerk("session.created")["data"]["user_id"], user);
        assert_eq!(&clerk("organization.created")["data"]["created_by"], user);
        assert_eq!(
            &clerk("organizationMembership.created")["data"]["public_user_data"]["user_id"],
            user
        );
    }

    #[test]
    fn a_webhook_without_samples_of_its_own_gets_any_type_by_its_scheme() {
        for scheme in WITH_ANY_TYPE {
            assert!(Scheme::named(scheme).is_some());
            let text = body("orders", scheme, "order \"paid\"", 7).unwrap();
            let event: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(event["type"], "order \"paid\"");
            assert_eq!(event["data"]["id"], "example_000000000007");
        }
        assert_eq!(body("clerk", "svix", "order.paid", 1), None);
        assert_eq!(body("payments", "stripe", "invoice.paid", 1), None);
        assert_eq!(kinds("orders").count(), 0);
    }
}
