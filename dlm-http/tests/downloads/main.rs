//! Whole downloads over HTTP, from servers that misbehave. Whatever a server does, a download either ends well with one version
//! of the content, bit for bit, or fails and leaves no file under the final name.

mod harness;
mod matrix;
mod mirrors;
mod names;
mod ranges;
