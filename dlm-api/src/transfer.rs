//! [`Transfer`]: a source's view of the download it serves.

/// A source's view of the download it serves.
#[derive(Clone, Debug)]
pub struct Transfer {}
