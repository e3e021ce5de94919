//! What a new source or sink is tested with.

mod script;

pub use script::{Act, Script, content};
