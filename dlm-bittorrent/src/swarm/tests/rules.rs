use super::*;
use crate::piece::{Order, Priority};

fn flood(test: &mut Scripted, key: PeerKey, message: Message) -> Option<(usize, Fault)> {
    let now = test.now;
    (0..20_000).find_map(|n| Some((n, test.swarm.received(now, key, message.clone()).err()?)))
}

fn begin(pieces: impl IntoIterator<Item = u32>, of: u32) -> Message {
    let mut bits = Bitfield::new(of);
    pieces.into_iter().for_each(|piece| _ = bits.insert(piece));
    Message::Bitfield(bits.to_wire())
}

#[test]
fn connections_that_are_not_wanted_are_refused() {
    let mut test = Scripted::new(4, 1);
    let now = test.now;
    let mut refused = |n, shake: Handshake| test.swarm.connected(now, address(n), false, &shake).err();
    let usual = |n| handshake(n, Swarm::RESERVED);
    assert_eq!(refused(1, Handshake { info_hash: [8; 20], ..usual(1) }), Some(Refusal::OtherTorrent));
    assert_eq!(refused(1, usual(0)), Some(Refusal::Ourselves));
    assert_eq!(refused(1, usual(1)), None);
    assert_eq!(refused(2, usual(1)), Some(Refusal::Duplicate));
    let same_address = SocketAddr::new(address(1).ip(), 1);
    assert_eq!(test.swarm.connected(now, same_address, false, &usual(9)).err(), Some(Refusal::TooManyAtAddress));
    (2..=50).for_each(|n| assert!(test.swarm.connected(now, address(n), false, &usual(n)).is_ok()));
    assert_eq!(test.swarm.connected(now, address(51), false, &usual(51)), Err(Refusal::Full));
}

#[test]
fn filtered_addresses_are_refused() {
    let mut test = Scripted::new(4, 1);
    test.swarm.config.filter = Arc::new("x:10.0.0.0-10.0.0.9".parse().unwrap());
    let mut try_one = |n| test.swarm.connected(test.now, address(n), false, &handshake(n, Swarm::RESERVED)).err();
    assert_eq!(try_one(9), Some(Refusal::Denied));
    assert_eq!(try_one(10), None);
}

#[test]
fn the_greeting_says_what_is_had() {
    let old = Reserved::default();
    let some = |pieces| {
        let mut bits = Bitfield::new(pieces);
        bits.insert(0);
        bits
    };
    let greet = |had: fn(u32) -> Bitfield, reserved| {
        let mut test = Scripted::with(9, 1, had);
        let key = test.connect_as(1, reserved);
        test.say(key)
    };
    let bitfield = Message::Bitfield(Bytes::from_static(&[0x80, 0]));
    assert_eq!(greet(Bitfield::new, Swarm::RESERVED), [Message::HaveNone]);
    assert_eq!(greet(Bitfield::new, old), []);
    assert_eq!(greet(Bitfield::full, Swarm::RESERVED), [Message::HaveAll]);
    assert_eq!(greet(Bitfield::full, old), [Message::Bitfield(Bytes::from_static(&[0xff, 0x80]))]);
    assert_eq!(greet(some, Swarm::RESERVED), std::slice::from_ref(&bitfield));
    assert_eq!(greet(some, old), [bitfield]);
}

#[test]
fn a_piece_is_claimed_requested_in_order_and_told_to_those_who_lack_it() {
    let mut test = Scripted::new(3, 2);
    let (seed, other) = (test.connect(1), test.connect(2));
    test.hear(seed, Message::HaveAll);
    test.hear(other, Message::HaveNone);
    assert_eq!(test.say(seed), [Message::HaveNone, Message::Interested]);
    assert_eq!(test.say(other), [Message::HaveNone]);
    test.hear(seed, Message::Unchoke);
    let requests = test.requests(seed);
    let piece = requests[0].piece;
    let expected = [0, 1].map(|index| test.content.geometry.block(piece, index));
    assert_eq!(requests, expected);
    let (first, last) = (test.good(expected[0]), test.good(expected[1]));
    assert!(matches!(test.deliver(seed, first), Received::Block { last: false, .. }));
    assert!(matches!(test.deliver(seed, last), Received::Block { last: true, .. }));
    let mut awake = Vec::new();
    test.swarm.wakes(&mut awake);
    assert!(awake.contains(&other) && awake.contains(&seed));
    assert_eq!(test.say(other), [Message::Have(piece)]);
    assert!(!test.say(seed).contains(&Message::Have(piece)), "a seed has it");
}

#[test]
fn who_breaks_a_rule_is_told_from_who_does_not() {
    let cases: [(&[Message], Fault); 6] = [
        (&[Message::Have(9)], Fault::NoSuchPiece),
        (&[Message::AllowedFast(9)], Fault::NoSuchPiece),
        (&[Message::Suggest(9)], Fault::NoSuchPiece),
        (&[Message::Bitfield(Bytes::from_static(&[0, 1]))], Fault::BadBitfield),
        (&[Message::Bitfield(Bytes::from_static(&[0]))], Fault::BadBitfield),
        (&[Message::HaveAll, Message::Bitfield(Bytes::from_static(&[0]))], Fault::BadBitfield),
    ];
    for (messages, fault) in cases {
        let mut test = Scripted::new(9, 1);
        let key = test.connect(1);
        let (last, first) = messages.split_last().unwrap();
        first.iter().for_each(|message| assert_eq!(test.hear(key, message.clone()), Received::Nothing));
        assert_eq!(test.swarm.received(test.now, key, last.clone()), Err(fault), "{messages:?}");
        assert!(!test.swarm.addresses().is_banned(address(1).ip()));
    }
    let mut test = Scripted::new(9, 1);
    let key = test.connect_as(1, Reserved::EXTENSIONS);
    assert_eq!(test.swarm.received(test.now, key, Message::HaveAll), Err(Fault::NotAgreed));
}

/// As aria2 does it.
#[test]
fn a_peer_may_say_again_what_it_has_and_has_no_less_than_before() {
    let mut test = Scripted::new(9, 1);
    let (key, other) = (test.connect(1), test.connect(2));
    test.hear(other, Message::HaveNone);
    let availability = |test: &Scripted| (0..9).map(|piece| test.swarm.picker.availability(piece)).collect::<Vec<_>>();
    for (message, expected) in [
        (Message::Have(1), [0, 1, 0, 0, 0, 0, 0, 0, 0]),
        (begin([1, 2, 3], 9), [0, 1, 1, 1, 0, 0, 0, 0, 0]),
        (begin([2, 4], 9), [0, 1, 1, 1, 1, 0, 0, 0, 0]),
        (Message::HaveNone, [0, 1, 1, 1, 1, 0, 0, 0, 0]),
        (Message::HaveAll, [1; 9]),
        (Message::HaveAll, [1; 9]),
        (begin([0], 9), [1; 9]),
    ] {
        test.hear(key, message);
        assert_eq!(availability(&test), expected);
        check(&test.swarm, Some(&test.ledger));
    }
    assert!(test.swarm.peer(key).unwrap().is_seed());
    test.swarm.disconnected(test.now, key);
    assert_eq!(availability(&test), [0; 9]);
}

#[test]
fn floods_end_at_their_bound() {
    for (message, bound, fault) in [
        (Message::KeepAlive, 300, Fault::Flood),
        (Message::Interested, 300, Fault::Flood),
        (Message::Unknown(99), 300, Fault::Flood),
        (Message::Have(3), 301, Fault::Flood),
        (Message::Port(1), 300, Fault::Flood),
        (Message::Extended { id: 1, payload: Bytes::new() }, 2000, Fault::Flood),
        (Message::Reject(Block { piece: 0, begin: 0, len: 1 }), 8000, Fault::Flood),
        (Message::Cancel(Block { piece: 0, begin: 0, len: 1 }), 8000, Fault::Flood),
        (Message::Request(Block { piece: 0, begin: 0, len: 1 }), 8, Fault::BadRequests),
        (Message::Piece { piece: 0, begin: 0, data: Bytes::from_static(b"x") }, 16, Fault::Unsolicited),
    ] {
        let mut test = Scripted::new(9, 1);
        let key = test.connect(1);
        assert_eq!(flood(&mut test, key, message.clone()), Some((bound, fault)), "{message:?}");
        assert_eq!(test.swarm.addresses().is_banned(address(1).ip()), fault.is_malice(), "{message:?}");
        let _ = test.say(key);
    }
}

#[test]
fn a_block_of_another_length_is_a_fault() {
    let mut test = Scripted::new(2, 2);
    let key = test.seed(1);
    let block = test.requests(key)[0];
    let data = test.content.block(Block { len: block.len - 1, ..block });
    let message = Message::Piece { piece: block.piece, begin: block.begin, data };
    assert_eq!(test.swarm.received(test.now, key, message), Err(Fault::WrongLength));
}

#[test]
fn a_choke_frees_the_blocks_for_others() {
    let mut test = Scripted::new(1, 2);
    let (old, other) = (test.connect_as(1, Reserved::default()), test.seed(2));
    test.hear(old, begin(0..1, 1));
    test.hear(old, Message::Unchoke);
    let blocks = test.requests(old);
    assert_eq!(blocks.len(), 2);
    assert_eq!(test.requests(other), [], "all are requested, and nobody is late");
    test.hear(old, Message::Choke);
    assert_eq!(test.requests(other), blocks);
    // What it had sent before is no fault, and no use.
    let late = test.good(blocks[0]);
    assert_eq!(test.deliver(old, late), Received::Wasted(BLOCK_LEN));
}

#[test]
fn with_the_fast_extension_a_choke_frees_what_is_rejected() {
    let mut test = Scripted::new(1, 2);
    let (fast, other) = (test.seed(1), test.seed(2));
    let blocks = test.requests(fast);
    test.hear(fast, Message::Choke);
    assert_eq!(test.requests(other), []);
    test.hear(fast, Message::Reject(blocks[1]));
    assert_eq!(test.requests(other), [blocks[1]]);
    let still = test.good(blocks[0]);
    assert!(matches!(test.deliver(fast, still), Received::Block { .. }));
}

#[test]
fn allowed_pieces_are_requested_while_choked() {
    let mut test = Scripted::new(20, 1);
    let key = test.connect(1);
    test.hear(key, Message::HaveAll);
    assert_eq!(test.requests(key), []);
    test.hear(key, Message::AllowedFast(7));
    test.hear(key, Message::AllowedFast(8));
    let requests = test.requests(key);
    assert_eq!(requests.iter().map(|block| block.piece).collect::<Vec<_>>(), [7, 8]);
    test.hear(key, Message::Reject(requests[0]));
    assert_eq!(test.requests(key), [], "it is not allowed after all");
}

#[test]
fn suggestions_come_first() {
    let mut test = Scripted::new(200, 1);
    let key = test.connect(1);
    test.hear(key, Message::HaveAll);
    test.hear(key, Message::Suggest(123));
    test.hear(key, Message::Unchoke);
    assert_eq!(test.requests(key)[0].piece, 123);
}

#[test]
fn what_the_ledger_does_not_give_is_asked_for_again() {
    let mut test = Scripted::new(3, 1);
    test.ledger.busy.insert(0);
    test.ledger.elsewhere.insert(1);
    test.ledger.busy.insert(2);
    let key = test.seed(1);
    assert_eq!(test.requests(key), []);
    assert!(test.swarm.had().has(1), "another source has it");
    test.ledger.busy.remove(&0);
    test.swarm.changed();
    assert_eq!(test.requests(key)[0].piece, 0);
    test.ledger.busy.clear();
    test.pass(SECOND * 6);
    assert_eq!(test.requests(key)[0].piece, 2);
    test.ledger.claimed.remove(&2);
    test.swarm.piece_had_elsewhere(test.now, 2);
    let cancel = Message::Cancel(test.content.geometry.block(2, 0));
    assert_eq!(test.say(key), [cancel]);
}

#[test]
fn a_piece_that_nobody_sends_is_released() {
    let mut test = Scripted::new(1, 2);
    let key = test.seed(1);
    assert_eq!(test.requests(key).len(), 2);
    test.swarm.disconnected(test.now, key);
    test.pass(SECOND * 2);
    assert_eq!(test.ledger.released, [0]);

    let mut test = Scripted::new(1, 2);
    let key = test.connect_as(1, Reserved::default());
    test.hear(key, begin(0..1, 1));
    test.hear(key, Message::Unchoke);
    assert_eq!(test.requests(key).len(), 2);
    test.hear(key, Message::Choke);
    test.pass(SECOND * 50);
    assert!(test.ledger.released.is_empty(), "it may unchoke us soon");
    test.pass(SECOND * 20);
    assert_eq!(test.ledger.released, [0]);
}

#[test]
fn who_does_not_answer_is_given_up_by_and_by() {
    let mut test = Scripted::new(1, 2);
    let (mute, other) = (test.seed(1), test.seed(2));
    let blocks = test.requests(mute);
    assert_eq!(test.requests(other), []);
    test.pass(SECOND * 22);
    assert!(test.swarm.peer_stats(mute).unwrap().snubs);
    assert_eq!(test.requests(other), blocks);
    // What comes late is taken, and the other one need not send it.
    let late = test.good(blocks[0]);
    assert!(matches!(test.deliver(mute, late), Received::Block { .. }));
    assert!(test.say(other).contains(&Message::Cancel(blocks[0])));
    assert!(!test.swarm.peer_stats(mute).unwrap().snubs);

    let mut test = Scripted::new(9, 2);
    let mute = test.seed(1);
    for _ in 0..4 {
        assert!(!test.requests(mute).is_empty());
        assert_eq!(test.closings(), []);
        test.pass(SECOND * 22);
    }
    assert_eq!(test.closings(), [(mute, Close::Silent)]);
}

#[test]
fn in_the_end_the_late_are_helped_and_the_losers_told() {
    let mut test = Scripted::new(1, 2);
    let (slow, other) = (test.seed(1), test.seed(2));
    let blocks = test.requests(slow);
    test.pass(SECOND * 4);
    assert_eq!(test.requests(other), blocks, "the same once more");
    let first = test.good(blocks[0]);
    test.deliver(other, first);
    assert!(test.say(slow).contains(&Message::Cancel(blocks[0])));
    let late = test.good(blocks[0]);
    assert_eq!(test.deliver(slow, late), Received::Wasted(BLOCK_LEN));
    assert_eq!(test.swarm.stats().wasted, u64::from(BLOCK_LEN));
}

#[test]
fn fast_peers_have_pieces_for_themselves_and_slow_ones_share() {
    let mut test = Scripted::new(50, 6);
    let (a, b) = (test.seed(1), test.seed(2));
    let (of_a, of_b) = (test.requests(a), test.requests(b));
    let first = of_a[0].piece;
    assert_eq!(of_b[0].piece, first, "nobody knows yet how fast they are");
    for (key, blocks) in [(a, of_a), (b, of_b)] {
        for block in blocks {
            let message = test.good(block);
            test.deliver(key, message);
        }
    }
    test.pass(SECOND);
    let (of_a, of_b) = (test.requests(a), test.requests(b));
    let own = of_a.last().unwrap().piece;
    assert_eq!([of_a[0].piece, of_a[1].piece, of_a[3].piece], [first, first, own], "what was begun comes first");
    assert!(own != first && of_a.len() < 8, "{own} is not requested whole");
    assert!(!of_b.is_empty() && of_b.iter().all(|block| block.piece != own), "{own} is the other's");
}

#[test]
fn priorities_order_and_deadlines_are_kept() {
    let mut test = Scripted::new(40, 1);
    test.swarm.set_order(Order::Sequential);
    test.swarm.set_priorities((0..40).filter(|piece| *piece > 5).map(|piece| (piece, Priority::UNWANTED)));
    test.swarm.set_deadline(4, Some(test.now));
    let key = test.seed(1);
    let mut order = Vec::new();
    loop {
        let requests = test.requests(key);
        if requests.is_empty() {
            break;
        }
        for block in requests {
            order.push(block.piece);
            let message = test.good(block);
            test.deliver(key, message);
        }
    }
    assert_eq!(order, [4, 0, 1, 2, 3, 5]);
    assert!(test.swarm.is_upload_only(), "a partial seed");
    assert_eq!(test.closings(), [(key, Close::Useless)]);
}

#[test]
fn a_piece_that_a_peer_lost_is_not_asked_of_it() {
    let mut test = Scripted::new(2, 1);
    let key = test.seed(1);
    assert_eq!(test.requests(key).len(), 2);
    test.swarm.dont_have(key, 1);
    assert!(test.say(key).contains(&Message::Cancel(test.content.geometry.block(1, 0))));
    assert_eq!(test.requests(key), []);
    assert_eq!(test.swarm.stats().copies.whole, 0);
    assert_eq!(test.swarm.stats().seeds, 0);
    test.hear(key, Message::Have(1));
    assert_eq!(test.requests(key).len(), 1);
}

#[test]
fn seeds_part_from_seeds() {
    let mut test = Scripted::with(4, 1, Bitfield::full);
    let (seed, partial, leech) = (test.connect(1), test.connect(2), test.connect(3));
    test.hear(seed, Message::HaveAll);
    test.hear(partial, Message::HaveNone);
    test.hear(leech, Message::HaveNone);
    test.swarm.set_upload_only(partial, true);
    assert_eq!(test.closings(), [(seed, Close::Useless), (partial, Close::Useless)]);
    (0..4).for_each(|piece| _ = test.hear(leech, Message::Have(piece)));
    assert_eq!(test.closings(), [(leech, Close::Useless)]);
}

#[test]
fn silence_is_broken_and_ended() {
    let mut test = Scripted::new(4, 1);
    let key = test.connect(1);
    let _ = test.say(key);
    test.pass(SECOND * 102);
    assert_eq!(test.say(key), [Message::KeepAlive]);
    test.pass(SECOND * 100);
    assert_eq!(test.closings(), [(key, Close::Silent)]);

    let mut test = Scripted::new(4, 1);
    let key = test.connect(1);
    for _ in 0..7 {
        assert_eq!(test.closings(), []);
        test.hear(key, Message::KeepAlive);
        test.pass(SECOND * 100);
    }
    assert_eq!(test.closings(), [(key, Close::Useless)]);
}

/// Both see the same two connections, and keep the same one.
#[test]
fn of_two_connections_that_crossed_one_stays() {
    let now = Instant::now();
    let swarm = |n: u32| {
        let config = Config::new([7; 20], peer_id(n));
        let geometry = Content::new(4, BLOCK_LEN).geometry;
        Swarm::new(now, config, geometry, Bitfield::new(4), Rng::with_seed(1))
    };
    // Which of them sees the connection first that the lesser name has opened.
    for [first_of_lesser, first_of_greater] in [[true, true], [true, false], [false, true], [false, false]] {
        let kept = [(1, 2, first_of_lesser), (2, 1, first_of_greater)].map(|(ours, theirs, lesser_first)| {
            let mut swarm = swarm(ours);
            let mut open = Vec::new();
            for of_lesser in [lesser_first, !lesser_first] {
                let outgoing = of_lesser == (ours < theirs);
                let mut from = address(theirs);
                from.set_port(if outgoing { 6881 } else { 50_000 });
                let connected = swarm.connected(now, from, outgoing, &handshake(theirs, Swarm::RESERVED));
                open.extend(connected.ok().map(|key| (key, of_lesser)));
            }
            let mut closings = Vec::new();
            swarm.closings(&mut closings);
            assert!(closings.iter().all(|(_, why)| *why == Close::Duplicate));
            open.retain(|(key, _)| closings.iter().all(|(closing, _)| closing != key));
            open.into_iter().map(|(_, of_lesser)| of_lesser).collect::<Vec<_>>()
        });
        assert_eq!(kept, [[true], [true]], "{first_of_lesser} {first_of_greater}");
    }
    let mut swarm = swarm(1);
    swarm.connected(now, address(2), true, &handshake(2, Swarm::RESERVED)).unwrap();
    let later = swarm.connected(now + SECOND * 11, address(3), false, &handshake(2, Swarm::RESERVED));
    assert_eq!(later, Err(Refusal::Duplicate), "somebody else takes its name");
}

#[test]
fn a_network_of_ipv6_is_one_address() {
    let mut test = Scripted::new(4, 1);
    let mut connect = |n, address: &str| {
        test.swarm.connected(test.now, address.parse().unwrap(), false, &handshake(n, Swarm::RESERVED)).err()
    };
    assert_eq!(connect(1, "[2001:db8::1]:1"), None);
    assert_eq!(connect(2, "[2001:db8::2]:1"), Some(Refusal::TooManyAtAddress));
    assert_eq!(connect(3, "[2001:db8:0:1::2]:1"), None);
}

/// Both ends of a connection prefer the same ones, once they know where they are (BEP 40).
#[test]
fn our_address_as_others_see_it_decides_whom_we_prefer() {
    use crate::peer::{Origin, Room, Voter, canonical_priority};
    let ours: SocketAddr = "123.213.32.10:6881".parse().unwrap();
    let known: Vec<SocketAddr> = (1..=40).map(|n| SocketAddr::from(([n, 7, 7, 7], 6881))).collect();
    let mut test = Scripted::new(4, 1);
    known.iter().for_each(|address| _ = test.swarm.addresses().add(*address, Origin::Tracker));
    test.swarm.told_our_address(Voter::Peer(known[0].ip()), ours.ip(), ours.port());
    test.swarm.told_our_address(Voter::Peer(known[1].ip()), "10.0.0.1".parse().unwrap(), ours.port());
    test.swarm.told_our_address(Voter::Tracker(0), "2606:4700::1".parse().unwrap(), ours.port());
    let best = known.iter().max_by_key(|address| canonical_priority(ours, **address)).copied();
    let room = Room { half_open: 9, connections: 9 };
    assert_eq!(test.swarm.addresses().next(test.now, room), best);
}
