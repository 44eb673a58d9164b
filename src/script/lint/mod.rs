//! What `check` and the loader say about a script that compiles.

use std::sync::Arc;

use rhai::AST;

use super::diagnose::Names;
use crate::frame::Frame;

pub(crate) fn check(_path: &str, _source: &Arc<str>, _ast: &AST, _names: &Names) -> Vec<Frame> {
    Vec::new()
}
