//! `webhook`, `get`, `post`, `put`, `patch`, `delete`: what the top level of a script calls. Each call becomes one `Handler` and its function;
//! the loader takes the list when the top level is through. Outside the set-up phase they refuse.

use std::cell::RefCell;
use std::sync::Arc;

use rhai::{Array, Dynamic, FnPtr, ImmutableString, Map, Module, NativeCallContext};

use super::options;
use crate::script::current::{Throw, fail, in_set_up};
use crate::script::handler::{Handler, Method, Options, Trigger};

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
