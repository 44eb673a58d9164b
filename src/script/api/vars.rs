//! `vars.NAME`: the plain values of `[vars]` in config. A name that is not there is an error that lists those that are.

use std::rc::Rc;

use rhai::{Dynamic, ImmutableString, Module};

use crate::script::current::{Throw, fail};
use crate::script::handler;

/// The value that scripts call `vars`.
#[derive(Clone)]
pub(crate) struct Vars(Rc<rhai::Map>);

impl Vars {
    /// From config; values that Rhai cannot hold become their JSON text.
    pub(crate) fn new(vars: &handler::Vars) -> Self {
        let value = |value: &serde_json::Value| {
            rhai::serde::to_dynamic(value).unwrap_or_else(|_| value.to_string().into())
        };
        Self(Rc::new(vars.iter().map(|(name, var)| (name.as_ref().into(), value(var))).collect()))
    }
}

/// The access.
pub(crate) fn register(module: &mut Module) {
    module.set_custom_type::<Vars>("Vars");
    module.set_indexer_get_fn(|vars: &mut Vars, name: ImmutableString| get(vars, &name));
}

fn get(Vars(vars): &Vars, name: &str) -> Result<Dynamic, Throw> {
    vars.get(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = vars.keys().map(rhai::Identifier::as_str).collect();
        let known = if known.is_empty() {
            "it is empty".to_owned()
        } else {
            format!("it has {}", known.join(", "))
        };
        fail(&format!("`{name}` is not in [vars] of config.toml; {known}"))
    })
}
