//! A closure that a built-in calls for each item. Rhai's own helper tries three forms for each item and wraps even the end of a
//! run into an error that a script can catch; this one finds the form once and lets endings through.

use rhai::{Dynamic, EvalAltResult, FnPtr, NativeCallContext};

use super::ending::{Fallible, refused};

/// A closure at work for one built-in.
pub(super) struct Callback<'a> {
    context: NativeCallContext<'a>,
    function: FnPtr,
    forms: &'static [Form],
    form: Option<Form>,
}

/// How the closure wants its arguments; a closure has one number of parameters.
#[derive(Clone, Copy)]
enum Form {
    Plain,
    /// With the index as one more argument.
    Indexed,
    /// The first argument as `this`.
    FirstBound,
    /// The second argument as `this`.
    SecondBound,
}

impl<'a> Callback<'a> {
    /// For each item of an array: the item, or the item and its index, or the item as `this`.
    pub(super) fn of_item(context: NativeCallContext<'a>, function: FnPtr) -> Self {
        Self::new(context, function, &[Form::Plain, Form::Indexed, Form::FirstBound])
    }

    /// For each item, with what came of those before it.
    pub(super) fn of_result_and_item(context: NativeCallContext<'a>, function: FnPtr) -> Self {
        Self::new(context, function, &[Form::Plain, Form::Indexed, Form::SecondBound])
    }

    /// For each entry of a map: key and value, or the key with the value as `this`.
    pub(super) fn of_entry(context: NativeCallContext<'a>, function: FnPtr) -> Self {
        Self::new(context, function, &[Form::Plain, Form::SecondBound])
    }

    /// For two items that are compared.
    pub(super) fn of_two(context: NativeCallContext<'a>, function: FnPtr) -> Self {
        Self::new(context, function, &[Form::Plain])
    }

    fn new(context: NativeCallContext<'a>, function: FnPtr, forms: &'static [Form]) -> Self {
        Self { context, function, forms, form: None }
    }

    pub(super) fn call<const N: usize>(
        &mut self,
        arguments: [&Dynamic; N],
        index: usize,
    ) -> Fallible<Dynamic> {
        if let Some(form) = self.form {
            return self.call_in(form, arguments, index);
        }
        let mut missing = None;
        for form in self.forms.iter().copied() {
            match self.call_in(form, arguments, index) {
                Err(error) if self.is_missing(&error) => {
                    missing.get_or_insert(error);
                }
                result => {
                    self.form = Some(form);
                    return result;
                }
            }
        }
        match missing {
            Some(error) if !self.function.is_anonymous() => Err(error),
            _ => Err(self.wrong_parameters(N)),
        }
    }

    /// A call whose answer is yes or no; anything but `true` is no, as in Rhai.
    pub(super) fn holds<const N: usize>(
        &mut self,
        arguments: [&Dynamic; N],
        index: usize,
    ) -> Fallible<bool> {
        Ok(self.call(arguments, index)?.as_bool().unwrap_or(false))
    }

    fn call_in<const N: usize>(
        &self,
        form: Form,
        arguments: [&Dynamic; N],
        index: usize,
    ) -> Fallible<Dynamic> {
        let mut values: Vec<Dynamic> = arguments.into_iter().cloned().collect();
        match form {
            Form::Plain => self.function.call_raw(&self.context, None, values),
            Form::Indexed => {
                values.push(i64::try_from(index).unwrap_or(i64::MAX).into());
                self.function.call_raw(&self.context, None, values)
            }
            Form::FirstBound | Form::SecondBound => {
                let bound = usize::from(matches!(form, Form::SecondBound));
                let mut this = values.remove(bound);
                self.function.call_raw(&self.context, Some(&mut this), values)
            }
        }
    }

    /// Whether there was no such function to call, rather than an error inside it.
    fn is_missing(&self, error: &EvalAltResult) -> bool {
        matches!(error, EvalAltResult::ErrorFunctionNotFound(signature, _)
            if signature.starts_with(self.function.fn_name()))
    }

    fn wrong_parameters(&self, parameters: usize) -> Box<EvalAltResult> {
        let plural = if parameters == 1 { "" } else { "s" };
        refused(&format!(
            "`{}` calls its closure with {parameters} argument{plural}; this one takes another number",
            self.context.fn_name()
        ))
    }
}
