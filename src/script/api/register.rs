//! `webhook`, `on`, `every`, `on_dead`, `get`, `post`, `put`, `patch`, `delete`: what the top level of a script calls. Each call becomes one `Handler` and its function;
//! the loader takes the list when the top level is through. Outside the set-up phase they refuse.

use std::cell::RefCell;
use std::sync::Arc;

use rhai::{Array, Dynamic, FnPtr, ImmutableString, Map, Module, NativeCallContext};

use super::options;
use crate::schedule::Schedule;
use crate::script::current::{Throw, fail, in_set_up};
use crate::script::handler::{Handler, Method, Options, Timer, Trigger};

thread_local! {
    static REGISTERED: RefCell<Vec<(Handler, FnPtr)>> = const { RefCell::new(Vec::new()) };
}

/// Takes what the top level has registered; the list is empty afterwards.
pub(crate) fn take() -> Vec<(Handler, FnPtr)> {
    REGISTERED.take()
}

/// The functions.
pub(crate) fn register(module: &mut Module) {
    module.set_native_fn(
        "webhook",
        |context: NativeCallContext<'_>, name: ImmutableString, handler: FnPtr| {
            webhook(&context, &name, &[Arc::from("*")], Options::default(), handler)
        },
    );
    module.set_native_fn(
        "webhook",
        |context: NativeCallContext<'_>, name: ImmutableString, options: Map, handler: FnPtr| {
            webhook(&context, &name, &[Arc::from("*")], options::of_webhook(&options)?, handler)
        },
    );
    module.set_native_fn(
        "webhook",
        |context: NativeCallContext<'_>,
         name: ImmutableString,
         pattern: ImmutableString,
         handler: FnPtr| {
            webhook(&context, &name, &[Arc::from(pattern.as_str())], Options::default(), handler)
        },
    );
    module.set_native_fn(
        "webhook",
        |context: NativeCallContext<'_>, name: ImmutableString, patterns: Array, handler: FnPtr| {
            webhook(&context, &name, &list(patterns)?, Options::default(), handler)
        },
    );
    module.set_native_fn(
        "webhook",
        |context: NativeCallContext<'_>,
         name: ImmutableString,
         pattern: ImmutableString,
         options: Map,
         handler: FnPtr| {
            webhook(
                &context,
                &name,
                &[Arc::from(pattern.as_str())],
                options::of_webhook(&options)?,
                handler,
            )
        },
    );
    module.set_native_fn(
        "webhook",
        |context: NativeCallContext<'_>,
         name: ImmutableString,
         patterns: Array,
         options: Map,
         handler: FnPtr| {
            webhook(&context, &name, &list(patterns)?, options::of_webhook(&options)?, handler)
        },
    );
    register_internal(module);
    for method in Method::ALL {
        module.set_native_fn(
            method.function(),
            move |context: NativeCallContext<'_>, path: ImmutableString, handler: FnPtr| {
                route(&context, method, &path, Options::default(), handler)
            },
        );
        module.set_native_fn(
            method.function(),
            move |context: NativeCallContext<'_>,
                  path: ImmutableString,
                  options: Map,
                  handler: FnPtr| {
                route(&context, method, &path, options::of_route(&options)?, handler)
            },
        );
    }
}

/// What begins by itself or by other scripts.
fn register_internal(module: &mut Module) {
    type Context<'a> = NativeCallContext<'a>;
    module.set_native_fn("on", |context: Context<'_>, topic: ImmutableString, handler: FnPtr| {
        on(&context, &topic, Options::default(), handler)
    });
    module.set_native_fn(
        "on",
        |context: Context<'_>, topic: ImmutableString, options: Map, handler: FnPtr| {
            on(&context, &topic, options::of_event(&options)?, handler)
        },
    );
    module.set_native_fn("on_dead", |context: Context<'_>, of: ImmutableString, handler: FnPtr| {
        on_dead(&context, &of, Options::default(), handler)
    });
    module.set_native_fn(
        "on_dead",
        |context: Context<'_>, of: ImmutableString, options: Map, handler: FnPtr| {
            on_dead(&context, &of, options::of_event(&options)?, handler)
        },
    );
    module.set_native_fn("every", |context: Context<'_>, when: ImmutableString, handler: FnPtr| {
        every(&context, &when, &Map::new(), handler)
    });
    module.set_native_fn(
        "every",
        |context: Context<'_>, when: ImmutableString, options: Map, handler: FnPtr| {
            every(&context, &when, &options, handler)
        },
    );
}

fn on(
    context: &NativeCallContext<'_>,
    topic: &str,
    options: Options,
    handler: FnPtr,
) -> Result<(), Throw> {
    if topic.is_empty() {
        return Err(fail("`on` needs a topic, such as \"order.paid\"; \"*\" stands for every one"));
    }
    add(context, "on", Trigger::Topic { pattern: topic.into() }, options, handler)
}

fn on_dead(
    context: &NativeCallContext<'_>,
    of: &str,
    options: Options,
    handler: FnPtr,
) -> Result<(), Throw> {
    if of.is_empty() {
        return Err(fail(
            "`on_dead` needs the name of a webhook or a topic; \"*\" stands for every one",
        ));
    }
    add(context, "on_dead", Trigger::Death { of: of.into() }, options, handler)
}

fn every(
    context: &NativeCallContext<'_>,
    when: &str,
    options: &Map,
    handler: FnPtr,
) -> Result<(), Throw> {
    let (options, zone) = options::of_timer(options)?;
    let schedule = Schedule::parse(when, zone.as_deref())
        .map_err(|error| fail(&format!("every(\"{when}\"): {error}")))?;
    let expression: Arc<str> = match zone {
        Some(zone) => format!("{when} {zone}").into(),
        None => when.into(),
    };
    let is_same = |(handler, _): &&(Handler, FnPtr)| matches!(&handler.trigger, Trigger::Timer(timer) if timer.expression == expression);
    let earlier = REGISTERED.with_borrow(|registered| registered.iter().filter(is_same).count());
    let position = u32::try_from(earlier).unwrap_or(u32::MAX);
    add(
        context,
        "every",
        Trigger::Timer(Timer { expression, position, schedule }),
        options,
        handler,
    )
}

fn webhook(
    context: &NativeCallContext<'_>,
    name: &str,
    patterns: &[Arc<str>],
    options: Options,
    handler: FnPtr,
) -> Result<(), Throw> {
    let trigger = Trigger::Webhook { webhook: name.into(), patterns: patterns.to_vec() };
    add(context, "webhook", trigger, options, handler)
}

fn route(
    context: &NativeCallContext<'_>,
    method: Method,
    path: &str,
    options: Options,
    handler: FnPtr,
) -> Result<(), Throw> {
    if !path.starts_with('/') {
        return Err(fail(&format!("the path `{path}` must start with `/`")));
    }
    let trigger = Trigger::Route { method, path: path.into() };
    add(context, method.function(), trigger, options, handler)
}

fn add(
    context: &NativeCallContext<'_>,
    what: &str,
    trigger: Trigger,
    options: Options,
    function: FnPtr,
) -> Result<(), Throw> {
    in_set_up(what)?;
    let position = context.call_position();
    let handler = Handler {
        trigger,
        options,
        parts: None,
        line: position.line().unwrap_or(1),
        column: position.position().unwrap_or(1),
    };
    REGISTERED.with_borrow_mut(|registered| registered.push((handler, function)));
    Ok(())
}

fn list(patterns: Array) -> Result<Vec<Arc<str>>, Throw> {
    let text = |pattern: Dynamic| {
        let kind = pattern.type_name();
        pattern
            .into_immutable_string()
            .map(|text| Arc::from(text.as_str()))
            .map_err(|_| fail(&format!("a pattern is a string, not {kind}")))
    };
    let patterns: Vec<_> = patterns.into_iter().map(text).collect::<Result<_, _>>()?;
    if patterns.is_empty() {
        return Err(fail("the list of patterns is empty; write `\"*\"` for every type"));
    }
    Ok(patterns)
}
