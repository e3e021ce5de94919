//! The extensions' handshake (BEP 10), with what BEP 9 and 21 add.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;

use crate::bencode::{Document, Item, Limits, Value};

use super::{Extension, ExtensionError};

/// The longest name of a client that is kept.
const MAX_CLIENT: usize = 64;

/// What a peer says of itself, in the beginning and whenever something has changed. What it leaves out stays as it was.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct ExtensionHandshake {
    /// The numbers that the sender gave to extensions (`m`); 0 takes one back. Those that we don't speak are left out.
    pub numbers: Vec<(Extension, u8)>,
    /// The sender's program and its version (`v`).
    pub client: Option<String>,
    /// The port that the sender listens on (`p`).
    pub port: Option<u16>,
    /// How many requests the sender keeps (`reqq`).
    pub request_limit: Option<u32>,
    /// The length of the torrent's metadata (`metadata_size`, BEP 9).
    pub metadata_len: Option<u32>,
    /// The receiver's address as the sender sees it (`yourip`).
    pub your_address: Option<IpAddr>,
    /// The sender's address of the other family (`ipv4`).
    pub ipv4: Option<Ipv4Addr>,
    /// The sender's address of the other family (`ipv6`).
    pub ipv6: Option<Ipv6Addr>,
    /// Whether the sender wants nothing more (`upload_only`, BEP 21).
    pub upload_only: Option<bool>,
}

impl ExtensionHandshake {
    /// What we say in any case: the numbers of all extensions that we speak, and how many requests we keep.
    pub fn ours(client: &str) -> Self {
        Self {
            numbers: Extension::ALL.map(|extension| (extension, extension.number())).to_vec(),
            client: Some(client.to_owned()),
            request_limit: Some(crate::peer::MAX_UPLOADS as u32),
            ..Self::default()
        }
    }

    /// The number under which the sender takes messages of this extension.
    pub fn number_of(&self, extension: Extension) -> Option<u8> {
        let number = self.numbers.iter().find(|(known, _)| *known == extension)?.1;
        (number != 0).then_some(number)
    }

    /// Takes over what a later handshake says.
    pub fn update(&mut self, later: Self) {
        for (extension, number) in later.numbers {
            self.numbers.retain(|(known, _)| *known != extension);
            self.numbers.push((extension, number));
        }
        self.client = later.client.or(self.client.take());
        self.port = later.port.or(self.port);
        self.request_limit = later.request_limit.or(self.request_limit);
        self.metadata_len = later.metadata_len.or(self.metadata_len);
        self.your_address = later.your_address.or(self.your_address);
        self.ipv4 = later.ipv4.or(self.ipv4);
        self.ipv6 = later.ipv6.or(self.ipv6);
        self.upload_only = later.upload_only.or(self.upload_only);
    }

    /// Reads one. Fields that make no sense are as if they weren't there: they are all optional.
    ///
    /// # Errors
    /// If it is no dictionary.
    pub fn decode(payload: &[u8]) -> Result<Self, ExtensionError> {
        // Some clients send a few bytes behind the end.
        let document = Document::parse_prefix(payload, &Limits::MESSAGE)?;
        let root = document.root();
        if root.as_dict().is_none() {
            return Err(ExtensionError::Content);
        }
        let number_of = |extension: Extension| {
            let number = root.get("m")?.get(extension.name())?.as_int()?;
            Some((extension, u8::try_from(number).ok()?))
        };
        Ok(Self {
            numbers: Extension::ALL.into_iter().filter_map(number_of).collect(),
            client: root.get("v").and_then(|value| value.as_text()).map(|name| printable(&name)),
            port: int(root.get("p")).filter(|port| *port != 0),
            request_limit: int(root.get("reqq")),
            metadata_len: int(root.get("metadata_size")).filter(|len| *len != 0),
            your_address: bytes::<4>(root.get("yourip"))
                .map(IpAddr::from)
                .or_else(|| bytes::<16>(root.get("yourip")).map(IpAddr::from)),
            ipv4: bytes::<4>(root.get("ipv4")).map(Ipv4Addr::from),
            ipv6: bytes::<16>(root.get("ipv6")).map(Ipv6Addr::from),
            upload_only: int::<u32>(root.get("upload_only")).map(|value| value != 0),
        })
    }

    /// The payload to send.
    pub fn encode(&self) -> Bytes {
        let address = |address: IpAddr| match address {
            IpAddr::V4(v4) => Bytes::copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => Bytes::copy_from_slice(&v6.octets()),
        };
        let numbers = self.numbers.iter().map(|(extension, number)| (extension.name(), i64::from(*number).into()));
        let fields: [(&str, Option<Item>); 9] = [
            ("m", Some(Item::dict(numbers))),
            ("v", self.client.as_deref().map(Item::from)),
            ("p", self.port.map(|port| i64::from(port).into())),
            ("reqq", self.request_limit.map(|limit| i64::from(limit).into())),
            ("metadata_size", self.metadata_len.map(|len| i64::from(len).into())),
            ("yourip", self.your_address.map(|ip| address(ip).into())),
            ("ipv4", self.ipv4.map(|ip| address(ip.into()).into())),
            ("ipv6", self.ipv6.map(|ip| address(ip.into()).into())),
            ("upload_only", self.upload_only.map(|value| i64::from(value).into())),
        ];
        let present = fields.into_iter().filter_map(|(key, value)| Some((key, value?)));
        // Only what nests deeply can't be written.
        Item::dict(present).encode().unwrap_or_default()
    }
}

fn int<T: TryFrom<i64>>(value: Option<Value<'_>>) -> Option<T> {
    value?.as_int()?.try_into().ok()
}

fn bytes<const N: usize>(value: Option<Value<'_>>) -> Option<[u8; N]> {
    value?.as_bytes()?.try_into().ok()
}

/// A name that can do no harm in a log or on a terminal.
fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(MAX_CLIENT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut ours = ExtensionHandshake::ours("dlm 0.1");
        ours.port = Some(6881);
        ours.metadata_len = Some(31_235);
        ours.your_address = Some([80, 4, 4, 200].into());
        ours.ipv6 = Some(Ipv6Addr::LOCALHOST);
        ours.upload_only = Some(true);
        assert_eq!(ExtensionHandshake::decode(&ours.encode()), Ok(ours.clone()));
        assert_eq!(
            &ours.encode()[..],
            b"d4:ipv616:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\
              1:md11:lt_donthavei2e11:ut_metadatai1ee13:metadata_sizei31235e1:pi6881e4:reqqi2000e11:upload_onlyi1e\
              1:v7:dlm 0.16:yourip4:\x50\x04\x04\xc8e"
        );
    }

    #[test]
    fn the_example_of_bep_10_is_read() {
        let theirs = b"d1:md11:LT_metadatai1e7:\xc2\xb5T_PEXi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e";
        let theirs = ExtensionHandshake::decode(theirs).unwrap();
        assert_eq!(theirs.client.as_deref(), Some("\u{b5}Torrent 1.2"));
        assert_eq!((theirs.port, theirs.numbers.len()), (Some(6881), 0));
    }

    #[test]
    fn what_makes_no_sense_is_not_there() {
        let theirs = b"d1:md11:ut_metadatai256e11:lt_donthavei-1ee1:pi70000e4:reqqi-5e13:metadata_sizei0e6:yourip3:abc1:v3:a\x1b[ee";
        let expected = ExtensionHandshake { client: Some("a[".to_owned()), ..Default::default() };
        assert_eq!(ExtensionHandshake::decode(theirs), Ok(expected));
        assert_eq!(ExtensionHandshake::decode(b"i1e"), Err(ExtensionError::Content));
        assert!(matches!(ExtensionHandshake::decode(b"d"), Err(ExtensionError::Bencode(_))));
    }

    #[test]
    fn a_later_one_changes_only_what_it_says() {
        let mut known = ExtensionHandshake::decode(b"d1:md11:ut_metadatai3ee4:reqqi250e1:v1:xe").unwrap();
        known.update(ExtensionHandshake::decode(b"d1:md11:lt_donthavei7ee11:upload_onlyi1ee").unwrap());
        assert_eq!(known.number_of(Extension::Metadata), Some(3));
        assert_eq!(known.number_of(Extension::DontHave), Some(7));
        assert_eq!((known.request_limit, known.upload_only), (Some(250), Some(true)));
        known.update(ExtensionHandshake::decode(b"d1:md11:ut_metadatai0eee").unwrap());
        assert_eq!(known.number_of(Extension::Metadata), None);
    }
}
