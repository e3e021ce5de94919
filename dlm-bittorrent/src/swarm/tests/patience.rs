//! Who is waited for, and for how long.

use super::*;

#[test]
fn nobody_is_blamed_while_we_do_not_read() {
    let mut test = Scripted::new(2, 4);
    let key = test.seed(1);
    let blocks = test.requests(key);
    test.swarm.writing(test.now, key);
    test.pass(SECOND * 400);
    assert_eq!(test.closings(), []);
    assert!(!test.swarm.peer_stats(key).unwrap().snubs);
    test.swarm.written(test.now, key);
    test.pass(SECOND * 15);
    assert!(!test.swarm.peer_stats(key).unwrap().snubs, "its time begins anew");
    let late = test.good(blocks[0]);
    assert!(matches!(test.deliver(key, late), Received::Block { .. }));
    test.pass(SECOND * 70);
    assert!(test.swarm.peer_stats(key).unwrap().snubs, "now it is its own fault");
}

/// A download from one peer that has sent one block of three, the others being asked for.
fn begun() -> (Scripted, PeerKey, Vec<Block>) {
    let mut test = Scripted::new(1, 3);
    let key = test.seed(1);
    test.swarm.set_request_limit(key, 3);
    let mut blocks = test.requests(key);
    let first = test.good(blocks[0]);
    test.deliver(key, first);
    blocks.extend(test.requests(key));
    assert_eq!(blocks.len(), 3);
    (test, key, blocks.split_off(1))
}

fn choke(test: &mut Scripted, key: PeerKey, blocks: &[Block]) {
    test.hear(key, Message::Choke);
    blocks.iter().for_each(|block| _ = test.hear(key, Message::Reject(*block)));
}

#[test]
fn what_is_there_waits_for_who_chokes_us_or_comes_back() {
    let (mut test, key, rest) = begun();
    choke(&mut test, key, &rest);
    for _ in 0..5 {
        test.pass(SECOND * 100);
        test.hear(key, Message::KeepAlive);
    }
    test.hear(key, Message::Unchoke);
    assert_eq!(test.requests(key), rest);
    test.swarm.disconnected(test.now, key);
    test.pass(SECOND * 100);
    assert!(test.ledger.released.is_empty());
    let key = test.seed(1);
    assert_eq!(test.requests(key), rest);
}

#[test]
fn what_another_source_could_fetch_is_released() {
    let (mut test, key, rest) = begun();
    test.ledger.rivals = true;
    choke(&mut test, key, &rest);
    test.pass(SECOND * 50);
    assert!(test.ledger.released.is_empty(), "it may unchoke us soon");
    test.pass(SECOND * 20);
    assert_eq!(test.ledger.released, [0]);

    let (mut test, key, _) = begun();
    test.ledger.rivals = true;
    test.swarm.disconnected(test.now, key);
    test.pass(SECOND * 2);
    assert_eq!(test.ledger.released, [0], "nobody has it");
}

#[test]
fn not_everything_that_was_begun_is_kept() {
    let mut test = Scripted::new(200, 2);
    for n in 0..80 {
        let key = test.connect(1 + n);
        test.hear(key, Message::HaveAll);
        test.hear(key, Message::AllowedFast(n));
        let block = test.requests(key)[0];
        let message = test.good(block);
        test.deliver(key, message);
        test.swarm.disconnected(test.now, key);
        test.pass(SECOND);
    }
    test.pass(SECOND * 10);
    assert_eq!(test.swarm.stats().partial_pieces, 64);
    assert_eq!(test.ledger.released, (0..16).collect::<Vec<_>>(), "the oldest");
}

/// Two peers on parole, since a piece of theirs was bad; the first has been asked for three of its blocks, and sent one.
fn on_parole() -> (Scripted, [PeerKey; 2], Vec<Block>) {
    let mut test = Scripted::new(1, 4);
    let keys = [test.seed(1), test.seed(2)];
    let of_each = keys.map(|key| test.requests(key));
    for (key, blocks) in keys.iter().zip(of_each) {
        for block in blocks {
            let bad = test.bad(block);
            test.deliver(*key, bad);
        }
    }
    assert!(keys.iter().all(|key| test.swarm.peer(*key).unwrap().parole));
    test.swarm.set_request_limit(keys[0], 3);
    let blocks = test.requests(keys[0]);
    let first = test.good(blocks[0]);
    test.deliver(keys[0], first);
    assert_eq!(test.requests(keys[1]), [], "the piece is the other's");
    (test, keys, blocks[1..].to_vec())
}

#[test]
fn who_is_on_parole_goes_on_with_what_it_alone_has_sent() {
    let (mut test, [first, second], rest) = on_parole();
    choke(&mut test, first, &rest);
    test.pass(SECOND * 20);
    assert_eq!(test.requests(second), []);
    test.hear(first, Message::Unchoke);
    loop {
        let requests = test.requests(first);
        assert_eq!(test.requests(second), []);
        if requests.is_empty() {
            break;
        }
        for block in requests {
            let message = test.good(block);
            test.deliver(first, message);
        }
    }
    assert!(test.swarm.had().is_full() && !test.swarm.peer(first).unwrap().parole);
}

#[test]
fn a_suspects_piece_begins_anew_with_another_suspect() {
    let (mut test, [first, second], rest) = on_parole();
    choke(&mut test, first, &rest);
    test.pass(SECOND * 62);
    assert_eq!(test.ledger.released, [0]);
    assert!(!test.requests(second).is_empty(), "all are on parole, and one of them is asked");
}

#[test]
fn a_whole_piece_of_which_nothing_is_heard_is_fetched_again() {
    let mut test = Scripted::new(1, 2);
    let key = test.seed(1);
    let blocks = test.requests(key);
    for block in &blocks {
        let message = test.good(*block);
        test.hear(key, message);
    }
    for _ in 0..6 {
        test.hear(key, Message::KeepAlive);
        assert_eq!(test.requests(key), []);
        test.pass(SECOND * 101);
    }
    assert_eq!(test.ledger.released, [0]);
    assert_eq!(test.requests(key), blocks);
}

#[test]
fn who_rejects_is_not_asked_again_at_once() {
    let mut test = Scripted::new(100, 4);
    let busy = test.seed(1);
    let mut rejected = Vec::new();
    loop {
        let blocks = test.requests(busy);
        if blocks.is_empty() {
            break;
        }
        for block in blocks {
            assert!(!rejected.contains(&block.piece) || rejected.last() == Some(&block.piece), "{rejected:?}");
            rejected.push(block.piece);
            assert!(rejected.len() < 20, "it is asked on and on");
            test.hear(busy, Message::Reject(block));
        }
    }
    let other = test.seed(2);
    assert!(rejected.contains(&test.requests(other)[0].piece), "who doesn't is");
    test.pass(SECOND * 11);
    assert!(!test.requests(busy).is_empty());
    // What was asked for may be rejected, however often.
    assert!(test.swarm.peer(busy).unwrap().refused.clone().spend(test.now));
    assert_eq!(test.closings(), []);
}
