//! Peers: whom to connect to, whom to believe, and whom to upload to. No I/O, no clock.

mod allowed_fast;
pub(crate) mod budget;
mod choker;
mod external;
mod filter;
mod list;
mod metadata;
mod priority;
mod rate;
mod uploads;

pub use allowed_fast::{ALLOWED_FAST, allowed_fast};
pub use choker::{Choker, Contender, OPTIMISTIC, ROUND};
pub use external::{ExternalAddress, Voter};
pub use filter::{Access, FilterError, FilterList, IpFilter};
pub(crate) use list::network;
pub use list::{Added, Bans, Ended, MAX_BANS, MAX_CANDIDATES, Origin, PeerList, Room};
pub use metadata::{Fetched, IsRight, MAX_METADATA, MetadataFetch, MetadataServer};
pub use priority::canonical_priority;
pub use rate::Meter;
pub use uploads::{MAX_UPLOAD_LEN, MAX_UPLOADS, UploadQueue};
