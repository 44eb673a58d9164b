//! Third parties that scripts call: what their APIs look like (`descriptor`), and how a call of one is made.

#[expect(dead_code, reason = "calls are made by what stands beside it, which comes next")]
pub(crate) mod descriptor;
