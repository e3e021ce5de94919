//! Tests of the ledger: each of its ways alone, and all of them at once against its invariants.

mod doubt;
mod found;
mod kinds;
mod methods;
mod parts;
mod random;
mod world;
