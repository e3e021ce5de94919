//! The program `dlm`: downloads files, resumes them, checks them, and takes them from several mirrors at once.
//!
//! Another program that wants to download depends on `dlm-api` and on the protocols it needs. What is here is the command
//! line, which changes with it, and [`Protocols`]: a client with every protocol that is compiled in.
//!
//! In reading order: [`cli`] is where the program starts; [`cli::args`] is what can be asked for; [`cli::get`] drives
//! the downloads and knows nothing of how they are done; [`cli::show`] tells the user about them.

pub mod cli;
mod protocols;

pub use protocols::Protocols;

/// The code in the README is compiled as documentation is.
#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../README.md")]
struct Readme;
