use std::sync::Arc;

use sha1::{Digest as _, Sha1};

use super::*;
use crate::digest::Algorithm;
use crate::fact::Fact;
use crate::scheduler::{Balanced, Want};
use crate::sink::MemorySink;
use crate::sync::lock;

const CONTENT: &[u8] = b"what the digest is of";

/// Writes `bytes` where the overlap of another source, which waits for them, has others.
async fn write_against_an_overlap(bytes: &'static [u8], has_piece: bool) -> Result<Flow> {
    let transfer = Transfer::standalone(Arc::new(MemorySink::new(u64::MAX)), Balanced::new());
    let (entry, len) = (EntryId::FIRST, CONTENT.len() as u64);
    let all = Span::new(entry, 0..len);
    transfer.learn(Fact::Len(entry, len)).unwrap();
    if has_piece {
        let digest = Digest::new(Algorithm::Sha1, &Sha1::digest(CONTENT)[..]).unwrap();
        transfer.learn(Fact::Pieces(vec![Piece { spans: [all.clone()].into(), digest }])).unwrap();
    }
    let liar = lock(&transfer.shared.core).ledger.add_source("liar");
    let overlap = Transfer::new(transfer.shared.clone(), liar, Some(entry));
    overlap.witness(entry, 4, Bytes::from_static(b"xxx"), false).await.unwrap();
    let mut lease = transfer.claim(Want::Exactly(vec![all]), None).unwrap();
    lease.write(entry, 0, Bytes::from_static(bytes)).await
}

/// Otherwise whoever brings an overlap that is wrong accuses everybody else.
#[tokio::test]
async fn a_digest_says_more_than_an_overlap() {
    assert_eq!(write_against_an_overlap(CONTENT, true).await.unwrap(), Flow::Stop);
    let wrong = write_against_an_overlap(b"What the digest is of", true).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Corrupt);
    let differs = write_against_an_overlap(CONTENT, false).await.unwrap_err();
    assert_eq!(differs.kind(), ErrorKind::Changed);
}
