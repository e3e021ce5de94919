//! Pieces: which there are, who has them, and which is to be fetched next. No I/O, no clock.

mod bitfield;
mod geometry;
mod picker;

pub use bitfield::{Bitfield, BitfieldError};
pub use geometry::{Geometry, GeometryError};
pub use picker::{Copies, Has, Order, Picker, Priority};
