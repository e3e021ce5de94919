//! The downloads of `dlm-api`, as the command line drives them.

use dlm_api::{Error, ErrorKind, Result};

use super::args::GetArgs;
use super::get::{Engine, Running};
use super::plan::Request;

pub(super) struct Client;

pub(super) fn client(_: &GetArgs) -> Result<Client> {
    Err(Error::new(ErrorKind::Unsupported, "this build can't download"))
}

impl Engine for Client {
    fn start(&self, _: &Request) -> Result<Box<dyn Running>> {
        Err(Error::new(ErrorKind::Unsupported, "this build can't download"))
    }
}
