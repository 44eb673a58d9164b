//! `PROVIDER.…`: calls of third parties. `x.get(path)` and the other verbs reach any path of a provider; `x.resource.operation(…)` is what its
//! descriptor names. Every function turns its arguments into a `ProviderCall` and waits for the answer.

use std::any::TypeId;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use rhai::{
    Array, Dynamic, EvalAltResult, FuncRegistration, ImmutableString, Map, Module,
    NativeCallContext, Position, RhaiFunc, Shared,
};

use crate::memory;
use crate::multipart::Sent;
use crate::script::api::file::File;
use crate::script::api::multipart;
use crate::script::call::{ProviderCall, Target, Verb};
use crate::script::current::{Throw, ask, fail};
use crate::script::handler::Ambient;
use crate::script::host_call::HostCall;
use crate::script::providers::{Node, Takes, Tree};
use crate::script::value::{self, Limits};
use crate::store::Json;

mod answer;
mod options;
mod page;
pub(in crate::script) mod stream;

pub(in crate::script) use self::answer::thrown;
use self::options::Taking;
pub(in crate::script) use self::page::Page;

/// Arguments of an operation: its path parameters, its own, the options.
const ARGUMENTS_MAX: usize = 8;
/// What an operation is given, as JSON, at most.
const PARAMS: Limits = Limits { bytes: 16 << 20 };
/// Bytes of a path or URL, and of one path parameter.
const PATH_BYTES_MAX: usize = 8 << 10;

/// The value that scripts call by a provider's name.
#[derive(Clone)]
pub(crate) struct Provider {
    name: Arc<str>,
    offers: Arc<Tree>,
}

/// `x.checkout.sessions`: the way to an operation.
#[derive(Clone)]
pub(crate) struct Resource {
    provider: Provider,
    name: ImmutableString,
}

impl Provider {
    /// As config has it.
    pub(crate) fn new(name: &Arc<str>, offers: &Arc<Tree>) -> Self {
        Self { name: Arc::clone(name), offers: Arc::clone(offers) }
    }
}

/// The functions that every provider has.
pub(crate) fn register(module: &mut Module) {
    module.set_custom_type::<Provider>("Provider");
    module.set_custom_type::<Resource>("Resource");
    module.set_indexer_get_fn(|provider: &mut Provider, name: ImmutableString| {
        if name == "name" {
            return Ok(Dynamic::from(ImmutableString::from(&*provider.name)));
        }
        resource(provider, name).map(Dynamic::from)
    });
    module.set_indexer_get_fn(|resource: &mut Resource, name: ImmutableString| {
        let name = format!("{}.{name}", resource.name).into();
        self::resource(&resource.provider, name).map(Dynamic::from)
    });
    for verb in [Verb::Get, Verb::Post, Verb::Put, Verb::Patch, Verb::Delete] {
        let name = verb.word().to_ascii_lowercase();
        module.set_native_fn(&name, move |provider: Provider, path: ImmutableString| {
            path_call(&provider, verb, &path, &Map::new(), false)
        });
        module.set_native_fn(
            &name,
            move |provider: Provider, path: ImmutableString, options: Map| {
                path_call(&provider, verb, &path, &options, false)
            },
        );
    }
    let request = |provider: &Provider, verb: &str, path: &str, options: &Map| {
        let verb = Verb::of(verb).ok_or_else(|| {
            fail("`request` takes a verb first: \"GET\", \"POST\", \"PUT\", \"PATCH\", \"DELETE\", \"HEAD\" or \"OPTIONS\"")
        })?;
        path_call(provider, verb, path, options, true)
    };
    module.set_native_fn(
        "request",
        move |provider: Provider, verb: ImmutableString, path: ImmutableString| {
            request(&provider, &verb, &path, &Map::new())
        },
    );
    module.set_native_fn(
        "request",
        move |provider: Provider, verb: ImmutableString, path: ImmutableString, options: Map| {
            request(&provider, &verb, &path, &options)
        },
    );
    stream::register(module);
    page::register(module);
    module.set_native_fn("is_healthy", |provider: Provider| is_healthy(&provider));
    module.set_native_fn("health", |provider: Provider| health(&provider));
}

/// What a thread has built of functions named after operations, for one `Ambient`.
struct Verbs {
    of: Weak<Ambient>,
    module: Shared<Module>,
}

thread_local! {
    static VERBS: RefCell<Vec<Verbs>> = const { RefCell::new(Vec::new()) };
}

/// The functions that are named after operations. All scripts of a thread that were loaded with the same values share them.
pub(in crate::script) fn operations(ambient: &Arc<Ambient>) -> Shared<Module> {
    memory::uncharged(|| {
        VERBS.with_borrow_mut(|built| {
            built.retain(|verbs| verbs.of.strong_count() > 0);
            let known = built.iter().find(|verbs| verbs.of.as_ptr() == Arc::as_ptr(ambient));
            if let Some(known) = known {
                return Shared::clone(&known.module);
            }
            let module = Shared::new(module_of(ambient));
            let of = Arc::downgrade(ambient);
            built.push(Verbs { of, module: Shared::clone(&module) });
            module
        })
    })
}

fn module_of(ambient: &Ambient) -> Module {
    let mut module = Module::new();
    let names: BTreeSet<&str> =
        ambient.providers.values().flat_map(|offers| offers.verbs()).collect();
    for name in names {
        for count in 0..ARGUMENTS_MAX {
            for of in [TypeId::of::<Resource>(), TypeId::of::<Provider>()] {
                let mut types = vec![TypeId::of::<Dynamic>(); count + 1];
                types[0] = of;
                let verb: ImmutableString = name.into();
                let call = move |_context: Option<NativeCallContext<'_>>,
                                 arguments: &mut [&mut Dynamic]| {
                    let mut values: Vec<Dynamic> =
                        arguments.iter_mut().map(|argument| argument.clone()).collect();
                    let called = values.remove(0);
                    operation_call(&called, &verb, values)
                };
                let function = RhaiFunc::Method {
                    func: Shared::new(call),
                    has_context: false,
                    is_pure: true,
                    is_volatile: true,
                };
                FuncRegistration::new(name).in_global_namespace().set_into_module_raw(
                    &mut module,
                    types,
                    function,
                );
            }
        }
    }
    module.build_index();
    module
}

/// What stands below a provider under that name.
fn resource(provider: &Provider, name: ImmutableString) -> Result<Resource, Throw> {
    match provider.offers.find(&name) {
        Some(Node::Resource(_)) => Ok(Resource { provider: provider.clone(), name }),
        Some(Node::Operation(takes)) => {
            Err(fail(&format!("`{0}.{name}` is an operation: `{0}.{name}{takes}`", provider.name)))
        }
        None => Err(unknown(provider, &name)),
    }
}

/// A name that leads nowhere, with what stands there.
fn unknown(provider: &Provider, name: &str) -> Throw {
    let (way, last) = match name.rsplit_once('.') {
        Some((resource, last)) => (format!("{}.{resource}", provider.name), last),
        None => (provider.name.to_string(), name),
    };
    let above = name.rsplit_once('.').map(|(resource, _)| provider.offers.find(resource));
    let tree = match above {
        None => Some(&*provider.offers),
        Some(Some(Node::Resource(tree))) => Some(tree),
        Some(_) => None,
    };
    let known: Vec<&str> = tree.map(|tree| tree.names().collect()).unwrap_or_default();
    let hint = match crate::frame::nearest(last, known.iter().copied()) {
        Some(near) => format!("did you mean `{way}.{near}`?"),
        None if known.is_empty() => {
            format!("call `{0}.get(path)`, `{0}.post(path)` and so on", provider.name)
        }
        None => format!("it has {}", known.join(", ")),
    };
    fail(&format!("`{way}` has no `{last}`; {hint}"))
}

fn path_call(
    provider: &Provider,
    verb: Verb,
    path: &str,
    options: &Map,
    whole: bool,
) -> Result<Dynamic, Throw> {
    if path.len() > PATH_BYTES_MAX {
        return Err(fail(&format!("a path has {PATH_BYTES_MAX} bytes at most")));
    }
    let call = || {
        Ok(HostCall::Provider(Box::new(ProviderCall {
            provider: Arc::clone(&provider.name),
            target: Target::Path { method: verb, path: path.into(), whole },
            options: options::read(options, Taking::Body)?,
            page: None,
        })))
    };
    let shown = shown(&provider.name, &verb.word().to_ascii_lowercase());
    ask(&shown, call, |reply| answer::of(reply, &shown, whole))
}

fn operation_call(called: &Dynamic, verb: &str, arguments: Vec<Dynamic>) -> Result<Dynamic, Throw> {
    let (provider, name) = if let Some(resource) = called.read_lock::<Resource>() {
        (resource.provider.clone(), format!("{}.{verb}", resource.name))
    } else if let Some(provider) = called.read_lock::<Provider>() {
        (provider.clone(), verb.to_owned())
    } else {
        return Err(fail(&format!("`{verb}` is called on a resource of a provider")));
    };
    let Some(Node::Operation(takes)) = provider.offers.find(&name) else {
        return Err(unknown(&provider, &name));
    };
    let Given { path, params, options } = given(&provider, &name, takes, arguments)?;
    let name: Arc<str> = name.into();
    let streams = takes.streams && params.as_ref().is_some_and(wants_stream);
    let call = || {
        let mut params = params.clone();
        let files = match &mut params {
            Some(params) if takes.files => files_of(params)?,
            _ => Vec::new(),
        };
        let params = params.map(|params| json(&params.into())).transpose();
        let mut options = options::read(&options, Taking::NoBody)?;
        options.stream |= streams;
        Ok(ProviderCall {
            provider: Arc::clone(&provider.name),
            target: Target::Operation {
                name: Arc::clone(&name),
                path: path.clone(),
                params: params?,
                files,
            },
            options,
            page: None,
        })
    };
    let shown = shown(&provider.name, &name);
    if takes.is_list {
        return page::first(&shown, call);
    }
    let asked = || Ok(HostCall::Provider(Box::new(call()?)));
    ask(&shown, asked, |reply| answer::of(reply, &shown, false))
}

/// What an operation was called with.
struct Given {
    path: Vec<Box<str>>,
    params: Option<Map>,
    options: Map,
}

fn given(
    provider: &Provider,
    name: &str,
    takes: &Takes,
    arguments: Vec<Dynamic>,
) -> Result<Given, Throw> {
    let usage = || format!("{}.{name}{takes}", provider.name);
    let mut arguments = arguments.into_iter();
    let mut path = Vec::with_capacity(takes.path.len());
    for parameter in &takes.path {
        let Some(argument) = arguments.next() else {
            return Err(fail(&format!("`{parameter}` is missing: `{}`", usage())));
        };
        path.push(segment(parameter, &argument)?);
    }
    let mut map = |what: &str| match arguments.next() {
        None => Ok(None),
        Some(argument) if argument.is_unit() => Ok(None),
        Some(argument) => match argument.try_cast_result::<Map>() {
            Ok(map) => Ok(Some(map)),
            Err(other) => Err(fail(&format!(
                "{what} of `{}` are a map, not {}",
                usage(),
                value::to_text(&other)
            ))),
        },
    };
    let params = if takes.params { map("the parameters")? } else { None };
    let options = map("the options")?.unwrap_or_default();
    if arguments.next().is_some() {
        return Err(fail(&format!("too many arguments: `{}`", usage())));
    }
    Ok(Given { path, params, options })
}

/// One path parameter, as text.
fn segment(parameter: &str, argument: &Dynamic) -> Result<Box<str>, Throw> {
    if let Ok(number) = argument.as_int() {
        return Ok(number.to_string().into());
    }
    match argument.read_lock::<ImmutableString>() {
        Some(text) if text.is_empty() => Err(fail(&format!("`{parameter}` is empty"))),
        Some(text) if text.len() > PATH_BYTES_MAX => {
            Err(fail(&format!("`{parameter}` is longer than {PATH_BYTES_MAX} bytes")))
        }
        Some(text) => Ok(text.as_str().into()),
        None if argument.is_unit() => {
            Err(fail(&format!("`{parameter}` is (), so the value that should hold it is missing")))
        }
        None => Err(fail(&format!(
            "`{parameter}` is a string or a whole number, not {}",
            value::to_text(argument)
        ))),
    }
}

/// Takes the files out of params.
fn files_of(params: &mut Map) -> Result<Vec<Sent>, Throw> {
    fn is_file(value: &Dynamic) -> bool {
        if let Some(list) = value.read_lock::<Array>() {
            return !list.is_empty() && list.iter().all(is_file);
        }
        let described = value.read_lock::<Map>();
        let file = described.as_ref().and_then(|map| map.get("file"));
        value.is_blob()
            || value.is::<File>()
            || file.is_some_and(|file| file.is_blob() || file.is::<File>())
    }
    let names: Vec<_> =
        params.iter().filter(|(_, value)| is_file(value)).map(|(name, _)| name.clone()).collect();
    let mut files = Map::new();
    for name in names {
        if let Some(value) = params.remove(&name) {
            files.insert(name, value);
        }
    }
    if files.is_empty() { Ok(Vec::new()) } else { multipart::parts(&files.into()) }
}

fn wants_stream(params: &Map) -> bool {
    params.get("stream").is_some_and(|stream| stream.as_bool() == Ok(true))
}

fn json(value: &Dynamic) -> Result<Json, Throw> {
    Ok(Json(value::to_json(value, PARAMS)?.into()))
}

/// As a reader would write it, for messages.
fn shown(provider: &str, operation: &str) -> String {
    format!("{provider}.{operation}")
}

fn is_healthy(provider: &Provider) -> Result<bool, Throw> {
    let call = || Ok(HostCall::Health(Arc::clone(&provider.name)));
    ask(&shown(&provider.name, "is_healthy"), call, answer::is_healthy)
}

fn health(provider: &Provider) -> Result<Dynamic, Throw> {
    let call = || Ok(HostCall::Health(Arc::clone(&provider.name)));
    ask(&shown(&provider.name, "health"), call, answer::health)
}

/// An error that is a map, as scripts catch it.
fn thrown_map(map: Map) -> Throw {
    Box::new(EvalAltResult::ErrorRuntime(map.into(), Position::NONE))
}
