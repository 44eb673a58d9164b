//! Stripe: resources as rows of `resources.json`, what is special about a few of them in `acts`, and its idempotency. Nothing is charged. Written from
//! <https://docs.stripe.com/api>.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::Moment;
use super::answer::Answer;
use super::form;
use super::ids::Ids;
use super::objects::Objects;
use super::request::Request;

mod acts;
mod error;
mod idempotency;
mod list;
mod params;
mod resource;

use self::error::{Outcome, Problem};
use self::idempotency::{Keys, Seen};
use self::params::expand;
use self::resource::{Resource, Verb};

/// Of its API, as answers name it.
const VERSION: &str = "2025-09-30.clover";
/// What secret keys begin with.
const KEY_PREFIXES: [&str; 4] = ["sk_test_", "rk_test_", "sk_live_", "rk_live_"];

/// The stand-in for Stripe.
pub(super) struct Stripe {
    resources: Vec<Resource>,
    /// Of each resource, by its place in `resources`.
    objects: Vec<Objects>,
    /// Of each checkout session what its object does not show.
    asides: Objects,
    keys: Keys,
}

/// What an operation needs beside its parameters.
struct Context<'a> {
    ids: &'a mut Ids,
    seconds: i64,
}

/// Where a path leads.
struct Target<'a> {
    /// A place in `resources`.
    resource: usize,
    id: Option<&'a str>,
    act: Option<&'a str>,
}

impl Stripe {
    pub(super) fn new() -> Self {
        let resources = resource::all();
        let objects = resources.iter().map(|_| Objects::default()).collect();
        Self { resources, objects, asides: Objects::default(), keys: Keys::default() }
    }

    pub(super) fn answer(&mut self, request: &Request, ids: &mut Ids, moment: &Moment) -> Answer {
        let id = ids.next("req_", 14);
        if let Err(problem) = authorised(request) {
            return problem.to_answer().with("request-id", &id);
        }
        let answer = match request.header("idempotency-key").filter(|_| is_unsafe(request)) {
            Some(key) => self.once(key, &id, request, ids, moment),
            None => {
                self.perform(request, ids, moment).unwrap_or_else(|problem| problem.to_answer())
            }
        };
        answer.with("request-id", &id).with("stripe-version", VERSION)
    }

    /// Marks a checkout session paid, as a customer who pays does; the event that says so.
    pub(super) fn complete(
        &mut self,
        session: &str,
        seconds: i64,
        ids: &mut Ids,
    ) -> Result<Value, String> {
        self.complete_session(session, &mut Context { ids, seconds })
            .map_err(|problem| problem.message)
    }

    /// Carries out what has a key once, and gives the answer again to whoever comes again.
    fn once(
        &mut self,
        key: &str,
        id: &str,
        request: &Request,
        ids: &mut Ids,
        moment: &Moment,
    ) -> Answer {
        match self.keys.look(key, request, moment) {
            Seen::Never => {}
            Seen::Answered(answer) => return answer.with("idempotency-key", key),
            Seen::Refused(problem) => return problem.to_answer().with("idempotency-key", key),
        }
        let outcome = self.perform(request, ids, moment);
        let is_kept = outcome.as_ref().err().is_none_or(Problem::is_of_execution);
        let answer = outcome.unwrap_or_else(|problem| problem.to_answer());
        if is_kept {
            self.keys.keep(key, id, request, &answer, moment);
        }
        answer.with("idempotency-key", key).with("original-request", id)
    }

    fn perform(&mut self, request: &Request, ids: &mut Ids, moment: &Moment) -> Outcome {
        let segments = request.segments();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let no_path = || Problem::no_such_path(&request.method, &request.path);
        let target = self.target(&segments).ok_or_else(no_path)?;
        let given = given(request)?;
        let mut context = Context { ids, seconds: moment.seconds() };
        let resource = &self.resources[target.resource];
        let verb =
            Verb::of(&request.method, target.id, target.act, resource).ok_or_else(no_path)?;
        let id = target.id.unwrap_or_default();
        let answered = match verb {
            Verb::Create => self.create(target.resource, given.clone(), &mut context)?,
            Verb::Retrieve => self.find(target.resource, id)?.clone(),
            Verb::Update => self.update(target.resource, id, given.clone(), &mut context)?,
            Verb::List => self.list(target.resource, request)?,
            Verb::Search => self.search(target.resource, request)?,
            Verb::Delete => self.delete(target.resource, id, &mut context)?,
            Verb::Act => {
                let act = target.act.unwrap_or_default();
                self.act(target.resource, id, act, given.clone(), &mut context)?
            }
        };
        let expanded = expand(answered, &given, |id| {
            self.objects.iter().find_map(|objects| objects.get(id)).cloned()
        });
        Ok(Answer::ok(&expanded))
    }

    fn target<'a>(&self, segments: &[&'a str]) -> Option<Target<'a>> {
        let ("v1", rest) = segments.split_first().map(|(first, rest)| (*first, rest))? else {
            return None;
        };
        let (resource, depth) =
            self.resources.iter().enumerate().find_map(|(index, resource)| {
                let path: Vec<&str> = resource.path.split('/').collect();
                rest.starts_with(&path).then_some((index, path.len()))
            })?;
        match rest.get(depth..)? {
            [] => Some(Target { resource, id: None, act: None }),
            [id] => Some(Target { resource, id: Some(id), act: None }),
            [id, act] => Some(Target { resource, id: Some(id), act: Some(act) }),
            _ => None,
        }
    }

    /// Where the objects of a path are; the paths are those of `resources.json`.
    fn place(&self, path: &str) -> usize {
        let place = self.resources.iter().position(|resource| resource.path == path);
        place.expect("a path of resources.json, as a test shows")
    }

    fn find(&self, resource: usize, id: &str) -> Result<&Value, Problem> {
        let what = &self.resources[resource].object;
        self.objects[resource].get(id).ok_or_else(|| Problem::no_such(what, id, "id").not_found())
    }

    fn find_mut(&mut self, resource: usize, id: &str) -> Result<&mut Value, Problem> {
        let what = &self.resources[resource].object;
        self.objects[resource]
            .get_mut(id)
            .ok_or_else(|| Problem::no_such(what, id, "id").not_found())
    }

    fn create(
        &mut self,
        resource: usize,
        given: Value,
        context: &mut Context<'_>,
    ) -> Result<Value, Problem> {
        let row = &self.resources[resource];
        row.check(&given)?;
        row.check_required(&given)?;
        let mut object = row.object(&given, context);
        if let Err(problem) = self.made(resource, &mut object, &given, context) {
            // A payment that was declined is there all the same, and may be confirmed with another card.
            if problem.is_of_execution() {
                self.objects[resource].insert(object);
            }
            return Err(problem);
        }
        self.objects[resource].insert(object.clone());
        self.tell(resource, "created", &object, context);
        Ok(object)
    }

    fn update(
        &mut self,
        resource: usize,
        id: &str,
        given: Value,
        context: &mut Context<'_>,
    ) -> Result<Value, Problem> {
        self.resources[resource].check(&given)?;
        self.find(resource, id)?;
        let template = self.resources[resource].template.clone();
        let object = self.find_mut(resource, id)?;
        params::set(object, &given, &template);
        let object = object.clone();
        self.tell(resource, "updated", &object, context);
        Ok(object)
    }

    fn delete(
        &mut self,
        resource: usize,
        id: &str,
        context: &mut Context<'_>,
    ) -> Result<Value, Problem> {
        if self.resources[resource].path == "subscriptions" {
            return self.cancel_subscription(id, context);
        }
        let object = self.find(resource, id)?.clone();
        if self.resources[resource].path == "invoices" && object["status"] != "draft" {
            return Err(Problem::bad("You can only delete draft invoices.", None)
                .with_code("invoice_not_editable"));
        }
        self.objects[resource].remove(id);
        self.tell(resource, "deleted", &object, context);
        Ok(json!({ "id": id, "object": object["object"], "deleted": true }))
    }

    /// Keeps an event of what has happened, to be listed and retrieved.
    fn tell(&mut self, resource: usize, what: &str, object: &Value, context: &mut Context<'_>) {
        let Some(start) = self.resources[resource].event_prefix() else { return };
        let kind = format!("{start}.{what}");
        self.tell_kind(&kind, object, context);
    }

    fn tell_kind(&mut self, kind: &str, object: &Value, context: &mut Context<'_>) -> Value {
        let event = event(kind, object, context.seconds, context.ids);
        let events = self.place("events");
        self.objects[events].insert(event.clone());
        event
    }
}

/// An event of that type about that object, as webhooks carry it.
pub(super) fn event(kind: &str, object: &Value, seconds: i64, ids: &mut Ids) -> Value {
    json!({
        "id": ids.next("evt_1", 23),
        "object": "event",
        "api_version": VERSION,
        "created": seconds,
        "data": { "object": object },
        "livemode": false,
        "pending_webhooks": 1,
        "request": { "id": ids.next("req_", 14), "idempotency_key": null },
        "type": kind,
    })
}

/// An error of this status, in the words that Stripe has for it.
pub(super) fn failure(status: StatusCode, ids: &mut Ids) -> Answer {
    error::general(status).to_answer().with("request-id", &ids.next("req_", 14))
}

fn is_unsafe(request: &Request) -> bool {
    request.method == Method::POST
}

/// The key, as Bearer or as the user name of Basic.
fn authorised(request: &Request) -> Result<(), Problem> {
    let Some(key) = request.bearer().map(str::to_owned).or_else(|| basic_user(request)) else {
        return Err(Problem::unauthorised(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details, or we can help at https://support.stripe.com/.".to_owned(),
        ));
    };
    if KEY_PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
        return Ok(());
    }
    // As the real one, it quotes the ends of the key.
    let letters: Vec<char> = key.chars().collect();
    let start: String = letters.iter().take(8).collect();
    let end: String = letters.iter().skip(letters.len().saturating_sub(4).max(8)).collect();
    Err(Problem::unauthorised(format!("Invalid API Key provided: {start}****{end}")))
}

fn basic_user(request: &Request) -> Option<String> {
    use base64::Engine as _;
    let (scheme, text) = request.header("authorization")?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
    let (user, _) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    (!user.is_empty()).then(|| user.to_owned())
}

/// The parameters: of a POST its body, of everything else its query.
fn given(request: &Request) -> Result<Value, Problem> {
    let bad = |form::BadForm(name)| {
        Problem::bad(format!("Invalid request: unable to parse parameter `{name}`."), Some(&name))
    };
    if request.method != Method::POST {
        let fields = request.query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        return form::nested(fields).map_err(bad);
    }
    let content_type = request.header("content-type").unwrap_or_default();
    let is_form = content_type.starts_with("application/x-www-form-urlencoded");
    if !is_form && !request.body.is_empty() {
        return Err(Problem::bad(
            format!(
                "Invalid request (check that your POST content type is application/x-www-form-urlencoded; it is `{content_type}`). If you have any questions, we can help at https://support.stripe.com/."
            ),
            None,
        ));
    }
    form::read(&request.body).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_that_the_code_names_is_a_row() {
        let stripe = Stripe::new();
        for path in acts::PATHS {
            stripe.place(path);
        }
        stripe.place("events");
    }
}
