use super::*;
use crate::peer::{MAX_UPLOAD_LEN, MAX_UPLOADS};

fn block(piece: u32) -> Block {
    Block { piece, begin: 0, len: 1000 }
}

fn seeding() -> (Scripted, PeerKey) {
    let mut test = Scripted::with(20, 2, Bitfield::full);
    let key = test.connect(1);
    test.hear(key, begin_with_ten());
    assert_eq!(test.say(key), [Message::HaveAll]);
    test.hear(key, Message::Interested);
    assert_eq!(test.say(key), [Message::Unchoke], "there is room, so that nobody waits for the next round");
    (test, key)
}

/// Ten pieces are enough not to be given any for free.
fn begin_with_ten() -> Message {
    let mut bits = Bitfield::new(20);
    (10..20).for_each(|piece| _ = bits.insert(piece));
    Message::Bitfield(bits.to_wire())
}

#[test]
fn requests_are_answered_in_order_and_counted() {
    let (mut test, key) = seeding();
    test.hear(key, Message::Request(block(3)));
    test.hear(key, Message::Request(block(1)));
    test.hear(key, Message::Request(block(2)));
    test.hear(key, Message::Cancel(block(1)));
    assert_eq!(test.say(key), [Message::Reject(block(1))]);
    let mut next = || test.swarm.next_upload(test.now, key);
    assert_eq!([next(), next(), next()], [Some(block(3)), Some(block(2)), None]);
    test.swarm.uploaded(test.now, key, 2000);
    test.pass(SECOND);
    let stats = test.swarm.peer_stats(key).unwrap();
    assert_eq!((stats.uploaded, stats.up_rate), (2000, 2000.0));
    assert_eq!(test.swarm.stats().uploaded, 2000);
}

#[test]
fn a_full_queue_rejects_and_a_choke_empties_it() {
    let (mut test, key) = seeding();
    (0..=MAX_UPLOADS).for_each(|_| _ = test.hear(key, Message::Request(block(0))));
    assert_eq!(test.say(key), [Message::Reject(block(0))]);
    test.hear(key, Message::NotInterested);
    let said = test.say(key);
    assert_eq!(said[0], Message::Choke);
    assert_eq!(said.len(), 1 + MAX_UPLOADS, "each is rejected");
    assert_eq!(test.swarm.next_upload(test.now, key), None);
    test.hear(key, Message::Request(block(0)));
    assert_eq!(test.say(key), [Message::Reject(block(0))], "it is choked");
}

#[test]
fn what_is_not_there_is_never_sent() {
    let (mut test, key) = seeding();
    for bad in [
        Block { piece: 20, begin: 0, len: 1 },
        Block { piece: 0, begin: 0, len: 0 },
        Block { piece: 0, begin: 1, len: 2 * BLOCK_LEN },
        Block { piece: 0, begin: u32::MAX, len: 2 },
        Block { piece: 0, begin: 0, len: MAX_UPLOAD_LEN + 1 },
    ] {
        test.hear(key, Message::Request(bad));
        assert_eq!(test.say(key), [Message::Reject(bad)]);
    }
    assert_eq!(test.swarm.next_upload(test.now, key), None);
    let mut test = Scripted::new(20, 1);
    let key = test.connect(1);
    test.hear(key, Message::Interested);
    let _ = test.say(key);
    test.hear(key, Message::Request(block(0)));
    assert_eq!(test.swarm.next_upload(test.now, key), None, "we don't have it");
}

#[test]
fn a_long_request_within_a_long_piece_is_answered() {
    let mut test = Scripted::with(2, 16, Bitfield::full);
    let key = test.connect(1);
    test.hear(key, Message::HaveNone);
    test.hear(key, Message::Interested);
    let _ = test.say(key);
    for (len, answered) in [(MAX_UPLOAD_LEN, true), (MAX_UPLOAD_LEN + 1, false)] {
        let long = Block { piece: 0, begin: 0, len };
        test.hear(key, Message::Request(long));
        assert_eq!(test.swarm.next_upload(test.now, key), answered.then_some(long));
    }
}

#[test]
fn a_newcomer_is_given_pieces_while_it_is_choked() {
    let mut test = Scripted::with(2000, 1, Bitfield::full);
    let key = test.connect(1);
    test.hear(key, Message::HaveNone);
    let said = test.say(key);
    let set: Vec<u32> =
        said.iter().filter_map(|m| if let Message::AllowedFast(piece) = m { Some(*piece) } else { None }).collect();
    assert_eq!(set, crate::peer::allowed_fast(address(1).ip(), &[7; 20], 2000, 10));
    test.hear(key, Message::Request(block(set[3])));
    assert_eq!(test.swarm.next_upload(test.now, key), Some(block(set[3])));
    for _ in 0..2 {
        test.hear(key, Message::Request(block(set[3])));
        assert_eq!(test.swarm.next_upload(test.now, key), Some(block(set[3])), "it may have been lost");
    }
    test.hear(key, Message::Request(block(set[3])));
    assert_eq!(test.say(key), [Message::Reject(block(set[3]))], "three times is enough");
    let other = (0..2000).find(|piece| !set.contains(piece)).unwrap();
    test.hear(key, Message::Request(block(other)));
    assert_eq!(test.swarm.next_upload(test.now, key), None);
    assert_eq!(test.say(key), [Message::Reject(block(other))]);
}

#[test]
fn only_so_many_are_unchoked_and_the_tried_one_changes() {
    let mut test = Scripted::with(40, 1, Bitfield::full);
    let keys: Vec<PeerKey> = (1..=30).map(|n| test.connect(n)).collect();
    for key in &keys {
        test.hear(*key, Message::HaveNone);
        test.hear(*key, Message::Interested);
    }
    let mut ever = std::collections::BTreeSet::<PeerKey>::new();
    for _ in 0..40 {
        for key in &keys {
            let _ = test.say(*key);
            test.hear(*key, Message::KeepAlive);
        }
        let open: Vec<_> = keys.iter().copied().filter(|key| !test.swarm.peer_stats(*key).unwrap().is_choked).collect();
        assert!((8..=9).contains(&open.len()), "{}", open.len());
        ever.extend(open);
        test.pass(SECOND * 30);
    }
    assert!(ever.len() > 15, "{}", ever.len());
}

#[test]
fn who_gives_is_given() {
    let mut test = Scripted::new(40, 1);
    test.swarm.set_upload_slots(2);
    let keys: Vec<PeerKey> = (1..=6).map(|n| test.seed(n)).collect();
    for key in &keys {
        test.hear(*key, Message::Interested);
    }
    let giving = [keys[3], keys[5]];
    for _ in 0..12 {
        for key in &keys {
            let requests = test.requests(*key);
            for block in requests.into_iter().filter(|_| giving.contains(key)).take(1) {
                let message = test.good(block);
                test.deliver(*key, message);
            }
        }
        test.pass(SECOND);
    }
    let is_choked = |key: PeerKey| test.swarm.peer_stats(key).unwrap().is_choked;
    assert!(giving.into_iter().all(|key| !is_choked(key)));
    assert_eq!(keys.iter().filter(|key| !is_choked(**key)).count(), 3, "and one is tried");
}

#[test]
fn what_cannot_be_read_is_given_to_nobody() {
    let (mut test, key) = seeding();
    test.swarm.set_dont_have(key, Some(9));
    for piece in [3, 12, 3] {
        test.swarm.withhold(piece);
    }
    let gone = Message::Extended { id: 9, payload: crate::wire::extension::encode_dont_have(3) };
    assert_eq!(test.say(key), [gone], "it has the other one itself");
    (0..20).for_each(|_| _ = test.hear(key, Message::Request(block(3))));
    assert_eq!(test.say(key), vec![Message::Reject(block(3)); 20], "it may not know yet: that is no fault");
    assert_eq!(test.swarm.next_upload(test.now, key), None);
    let late = test.connect(2);
    let mut bits = Bitfield::full(20);
    [3, 12].iter().for_each(|piece| _ = bits.remove(*piece));
    assert_eq!(test.say(late), [Message::Bitfield(bits.to_wire())]);
}

#[test]
fn to_request_and_cancel_without_end_is_a_flood() {
    let (mut test, key) = seeding();
    let ended = (0..20_000).find_map(|n| {
        test.hear(key, Message::Request(block(0)));
        let ended = test.swarm.received(test.now, key, Message::Cancel(block(0))).err().map(|fault| (n, fault));
        let _ = test.say(key);
        ended
    });
    assert_eq!(ended, Some((8000, Fault::Flood)));
}
