use super::*;

const LEN: u32 = 3 * METADATA_PIECE + 100;

struct Test {
    metadata: Bytes,
    fetch: MetadataFetch<u32>,
    now: Instant,
}

impl Test {
    fn new() -> Self {
        let metadata: Bytes = (0..LEN).map(|n| (n / 97) as u8).collect();
        let hash = Sha1::digest(&metadata).into();
        Self { metadata, fetch: MetadataFetch::of_sha1(hash), now: Instant::now() }
    }

    fn data(&self, piece: u32, lies: bool) -> MetadataMessage {
        let mut server = MetadataServer::new(self.now, LEN);
        match server.answer(self.now, piece, Some(&self.metadata)) {
            MetadataMessage::Data { piece, total, data } if lies => {
                let mut data = data.to_vec();
                data[5] ^= 1;
                MetadataMessage::Data { piece, total, data: data.into() }
            }
            other => other,
        }
    }

    /// Asks the peers by turns, one request each, until something comes of it. Who is in `liars` lies.
    fn run(&mut self, peers: &[u32], liars: &[u32]) -> Fetched<u32> {
        for _ in 0..20 {
            for key in peers {
                let Some(piece) = self.fetch.next_request(self.now, *key) else { continue };
                let message = self.data(piece, liars.contains(key));
                match self.fetch.received(self.now, *key, &message) {
                    Fetched::Nothing => {}
                    other => return other,
                }
            }
        }
        Fetched::Nothing
    }
}

#[test]
fn several_peers_deliver_it_together() {
    let mut test = Test::new();
    assert!(test.fetch.joined(1, LEN) && test.fetch.joined(2, LEN));
    let metadata = test.metadata.clone();
    assert_eq!(test.run(&[1, 2], &[]), Fetched::Done { metadata, liars: vec![] });
}

#[test]
fn who_lied_is_found_by_asking_one_at_a_time() {
    let mut test = Test::new();
    (1..=3).for_each(|key| assert!(test.fetch.joined(key, LEN)));
    assert_eq!(test.run(&[1, 2, 3], &[2]), Fetched::Wrong(None));
    let metadata = test.metadata.clone();
    assert_eq!(test.run(&[1, 2, 3], &[2]), Fetched::Done { metadata, liars: vec![2] });

    let mut test = Test::new();
    (1..=3).for_each(|key| assert!(test.fetch.joined(key, LEN)));
    assert_eq!(test.run(&[1, 2, 3], &[1]), Fetched::Wrong(None));
    assert_eq!(test.run(&[1, 2, 3], &[1]), Fetched::Wrong(Some(1)), "it sent all of it");
    let metadata = test.metadata.clone();
    assert_eq!(test.run(&[1, 2, 3], &[1]), Fetched::Done { metadata, liars: vec![1] });
}

#[test]
fn lengths_that_disagree_are_tried_one_after_the_other() {
    let mut test = Test::new();
    (1..=3).for_each(|key| assert!(test.fetch.joined(key, LEN + 1)));
    assert!(test.fetch.joined(9, LEN));
    assert_eq!(test.fetch.next_request(test.now, 9), None, "more say otherwise");
    assert!(test.fetch.next_request(test.now, 1).is_some());
    test.now += STALL;
    let metadata = test.metadata.clone();
    assert_eq!(test.run(&[9], &[]), Fetched::Done { metadata, liars: vec![] });
}

#[test]
fn nobodys_word_makes_us_allocate_or_believe() {
    let mut test = Test::new();
    assert!(!test.fetch.joined(1, 0) && !test.fetch.joined(1, MAX_METADATA + 1));
    assert!(test.fetch.joined(1, MAX_METADATA) && test.fetch.joined(2, LEN));
    assert_eq!(test.fetch.progress(), (0, None));
    test.fetch.left(1);
    assert_eq!(test.fetch.next_request(test.now, 2), Some(0));
    for wrong in [test.data(1, false), MetadataMessage::Data { piece: 0, total: LEN, data: Bytes::from_static(b"x") }] {
        assert_eq!(test.fetch.received(test.now, 2, &wrong), Fetched::Nothing);
    }
    assert_eq!(test.fetch.progress(), (0, Some(LEN)));
}

#[test]
fn who_is_late_or_rejects_is_replaced() {
    let mut test = Test::new();
    assert!(test.fetch.joined(1, LEN) && test.fetch.joined(2, LEN));
    let mut asked: Vec<u32> = std::iter::from_fn(|| test.fetch.next_request(test.now, 1)).collect();
    assert_eq!(asked, [0, 1, 2, 3]);
    assert_eq!(test.fetch.next_request(test.now, 2), None);
    test.fetch.received(test.now, 1, &MetadataMessage::Reject(2));
    assert_eq!(test.fetch.next_request(test.now, 1), None, "not so soon");
    assert_eq!(test.fetch.next_request(test.now, 2), Some(2));
    test.now += TIMEOUT;
    asked = std::iter::from_fn(|| test.fetch.next_request(test.now, 1)).collect();
    assert_eq!(asked, [] as [u32; 0]);
    test.now += REJECTED;
    assert_eq!(test.fetch.next_request(test.now, 1), Some(0));
}

#[test]
fn serving_is_bounded() {
    let test = Test::new();
    let mut server = MetadataServer::new(test.now, LEN);
    let mut answers = (0..20).map(|_| server.answer(test.now, 3, Some(&test.metadata)));
    assert!(
        answers
            .by_ref()
            .take(8)
            .all(|answer| matches!(answer, MetadataMessage::Data { data, .. } if data.len() == 100))
    );
    assert!(answers.all(|answer| answer == MetadataMessage::Reject(3)));
    let later = test.now + Duration::from_secs(1);
    assert!(matches!(server.answer(later, 0, Some(&test.metadata)), MetadataMessage::Data { .. }));
    for (piece, metadata) in [(4, Some(&test.metadata)), (u32::MAX, Some(&test.metadata)), (0, None)] {
        let mut server = MetadataServer::new(test.now, LEN);
        assert_eq!(server.answer(test.now, piece, metadata), MetadataMessage::Reject(piece));
    }
}

#[test]
fn what_is_said_twice_loses_nothing() {
    let mut test = Test::new();
    assert!(test.fetch.joined(1, LEN));
    let piece = test.fetch.next_request(test.now, 1).unwrap();
    assert_eq!(test.fetch.received(test.now, 1, &test.data(piece, false)), Fetched::Nothing);
    assert!(test.fetch.joined(1, LEN));
    assert_eq!((test.fetch.progress().0, test.fetch.pieces_of(1)), (METADATA_PIECE.into(), 1));
}
