use super::*;

/// Requests of both peers for blocks of the only piece, two each.
fn shared_piece() -> (Scripted, [PeerKey; 2], [Vec<Block>; 2]) {
    let mut test = Scripted::new(1, 4);
    let keys = [test.seed(1), test.seed(2)];
    let requests = keys.map(|key| test.requests(key));
    assert_eq!(requests.each_ref().map(Vec::len), [2, 2]);
    (test, keys, requests)
}

#[test]
fn who_alone_sent_a_bad_piece_is_banned_at_once() {
    let mut test = Scripted::new(2, 2);
    let key = test.seed(1);
    for block in test.requests(key) {
        let bad = test.bad(block);
        test.deliver(key, bad);
    }
    assert!(test.swarm.addresses().is_banned(address(1).ip()));
    assert_eq!(test.closings(), [(key, Close::Banned)]);
    let again = test.swarm.connected(test.now, address(1), true, &handshake(1, Swarm::RESERVED));
    assert_eq!(again, Err(Refusal::Denied));
}

#[test]
fn of_several_only_the_one_whose_block_was_bad_is_banned() {
    let (mut test, [good, evil], [first, second]) = shared_piece();
    for block in first {
        let message = test.good(block);
        test.deliver(good, message);
    }
    let (fine, bad) = (test.good(second[0]), test.bad(second[1]));
    test.deliver(evil, fine);
    test.deliver(evil, bad);
    assert!(test.swarm.had_failed(0));
    assert_eq!(test.closings(), [], "nobody knows yet who it was");
    // Both are on parole: whoever asks first has the piece for itself.
    loop {
        let requests = test.requests(good);
        assert_eq!(test.requests(evil), [], "the piece is the other's");
        if requests.is_empty() {
            break;
        }
        for block in requests {
            let message = test.good(block);
            test.deliver(good, message);
        }
    }
    assert!(test.swarm.had().is_full() && !test.swarm.had_failed(0));
    assert!(test.swarm.addresses().is_banned(address(2).ip()));
    assert!(!test.swarm.addresses().is_banned(address(1).ip()));
    assert!(!test.swarm.peer(good).unwrap().parole, "it has shown that it is honest");
}

#[test]
fn who_has_left_is_banned_all_the_same() {
    let (mut test, [good, evil], [first, second]) = shared_piece();
    for (key, blocks, lies) in [(good, first, false), (evil, second, true)] {
        for block in blocks {
            let message = if lies { test.bad(block) } else { test.good(block) };
            test.deliver(key, message);
        }
    }
    test.swarm.disconnected(test.now, evil);
    loop {
        let requests = test.requests(good);
        if requests.is_empty() {
            break;
        }
        for block in requests {
            let message = test.good(block);
            test.deliver(good, message);
        }
    }
    assert!(test.swarm.addresses().is_banned(address(2).ip()));
    assert!(!test.swarm.addresses().is_banned(address(1).ip()));
}

#[test]
fn nobody_is_banned_for_what_is_not_known() {
    // When the piece is bad, and when it is good.
    for when in [false, true] {
        let (mut test, [good, evil], [first, second]) = shared_piece();
        let all: std::collections::BTreeSet<u32> = (0..4).collect();
        if !when {
            test.ledger.forgotten = all.clone();
        }
        for (key, blocks, lies) in [(good, first, false), (evil, second, true)] {
            for block in blocks {
                let message = if lies { test.bad(block) } else { test.good(block) };
                test.deliver(key, message);
            }
        }
        test.ledger.forgotten = if when { all } else { Default::default() };
        loop {
            let requests = test.requests(good);
            if requests.is_empty() {
                break;
            }
            for block in requests {
                let message = test.good(block);
                test.deliver(good, message);
            }
        }
        assert!(test.swarm.had().is_full());
        assert!([1, 2].iter().all(|n| !test.swarm.addresses().is_banned(address(*n).ip())));
        assert!(test.swarm.peer(evil).unwrap().parole, "it has shown nothing yet");
    }
}

#[test]
fn what_was_lost_by_nobodys_fault_is_fetched_again() {
    let mut test = Scripted::new(1, 2);
    let key = test.seed(1);
    let blocks = test.requests(key);
    for block in &blocks {
        let message = test.good(*block);
        test.hear(key, message);
    }
    test.ledger.claimed.clear();
    test.swarm.piece_lost(0);
    assert_eq!(test.requests(key), blocks);
    assert_eq!(test.closings(), []);
}

#[test]
fn nobody_joins_the_piece_of_a_suspect() {
    let mut test = Scripted::new(1, 6);
    let keys = [test.seed(1), test.seed(2), test.seed(3)];
    // So that it can't ask for all of the piece at once.
    test.swarm.set_request_limit(keys[0], 3);
    let [first, second, third] = keys.map(|key| test.requests(key));
    assert_eq!(third.len(), 2);
    for (key, blocks, lies) in [(keys[0], first, false), (keys[1], second, true)] {
        for block in blocks {
            let message = if lies { test.bad(block) } else { test.good(block) };
            test.deliver(key, message);
        }
    }
    // The third is late, and loses its blocks to the first.
    test.pass(SECOND * 4);
    for block in test.requests(keys[0]) {
        assert!(third.contains(&block));
        let message = test.good(block);
        test.deliver(keys[0], message);
    }
    assert!(test.swarm.had_failed(0));
    assert!(!test.swarm.peer(keys[2]).unwrap().parole, "nothing of it was in the piece");
    let alone = test.requests(keys[0]);
    assert!(!alone.is_empty() && alone.len() < 6);
    assert_eq!(test.requests(keys[2]), []);
}

/// It is sealed before anybody says so; who sent what would be forgotten.
#[test]
fn a_piece_whose_blocks_all_came_is_not_had_from_elsewhere() {
    let mut test = Scripted::new(2, 2);
    let key = test.seed(1);
    let blocks = test.requests(key);
    let piece = blocks[0].piece;
    for block in &blocks {
        assert!(!test.swarm.piece_had_elsewhere(test.now, 9), "there is none");
        let message = test.good(*block);
        test.hear(key, message);
    }
    assert!(!test.swarm.piece_had_elsewhere(test.now, piece));
    test.swarm.piece_done(test.now, piece, &mut |_| None);
    assert!(!test.swarm.piece_had_elsewhere(test.now, piece), "it is had");
    assert!(test.swarm.piece_had_elsewhere(test.now, 1 - piece));
}
