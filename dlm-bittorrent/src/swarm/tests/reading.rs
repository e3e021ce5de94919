//! Somebody waits for bytes, or takes no more than so many a second.

use super::network::{Manner, Network};
use super::*;

const MIB: f64 = 1024.0 * 1024.0;

/// Requests until there are none, each answered at once. The pieces, in the order in which they were first asked for.
fn fetch(test: &mut Scripted, key: PeerKey) -> Vec<u32> {
    let mut order = Vec::new();
    loop {
        let requests = test.requests(key);
        if requests.is_empty() {
            return order;
        }
        for block in requests {
            if !order.contains(&block.piece) {
                order.push(block.piece);
            }
            let message = test.good(block);
            test.deliver(key, message);
        }
    }
}

#[test]
fn a_window_is_fetched_in_order_and_nothing_else_until_it_moves() {
    let mut test = Scripted::new(40, 2);
    test.swarm.set_window(Some((10, Some(14))));
    let key = test.seed(1);
    assert_eq!(fetch(&mut test, key), [10, 11, 12, 13]);
    let mut awake = Vec::new();
    test.swarm.wakes(&mut awake);
    test.swarm.set_window(Some((14, Some(16))));
    awake.clear();
    test.swarm.wakes(&mut awake);
    assert_eq!(awake, [key], "there is something to be asked for now");
    assert_eq!(fetch(&mut test, key), [14, 15]);
    // A reader, who may seek: what is behind him comes last.
    test.swarm.set_window(Some((37, None)));
    assert_eq!(fetch(&mut test, key)[..5], [37, 38, 39, 0, 1]);
    assert!(test.swarm.is_upload_only());
}

/// Who waits is not kept waiting by the peer that happened to be asked first.
#[test]
fn a_late_piece_is_asked_of_a_faster_peer_too_but_of_no_slower_one() {
    let mut test = Scripted::new(40, 2);
    let deadline = test.now + SECOND * 2;
    (0..2).for_each(|piece| test.swarm.set_deadline(piece, Some(deadline + SECOND * 60 * piece)));
    let slow = test.seed(1);
    let asked = test.requests(slow);
    assert_eq!(asked, [0, 1].map(|index| test.content.geometry.block(0, index)));
    let early = test.seed(2);
    assert!(test.requests(early).iter().all(|block| block.piece == 1), "it is not late yet");
    test.pass(SECOND * 2);
    // Two have their hands full already, with as much as each other.
    assert!(test.requests(early).is_empty());
    // Of one who is new nobody knows more than that he has nothing else to do.
    let fast = test.seed(3);
    let tried = test.requests(fast);
    assert_eq!(tried[0], asked[0]);
    assert!(tried[1].piece > 1);
    let other = test.seed(4);
    assert_eq!(test.requests(other)[0], asked[1], "each is asked for twice, and no more");
    for block in tried {
        let message = test.good(block);
        test.deliver(fast, message);
    }
    assert!(test.say(slow).contains(&Message::Cancel(asked[0])));
    test.swarm.disconnected(test.now, other);
    test.pass(SECOND);
    assert_eq!(test.requests(fast)[0], asked[1], "he is known to be fast now");
}

fn in_flight(swarm: &Swarm) -> u32 {
    swarm.peers().filter_map(|key| swarm.peer_stats(key)).map(|stats| stats.requests as u32).sum()
}

#[test]
fn no_more_is_asked_for_than_a_limit_lets_through() {
    let mut test = Scripted::new(400, 4);
    // Eight blocks in two seconds.
    test.swarm.set_download_limit(Some(4 * u64::from(BLOCK_LEN)));
    let keys: Vec<PeerKey> = (1..=20).map(|n| test.seed(n)).collect();
    let first = test.requests(keys[0]);
    keys.iter().for_each(|key| _ = test.requests(*key));
    assert_eq!(in_flight(&test.swarm), 8);
    let mut awake = Vec::new();
    test.swarm.wakes(&mut awake);
    let message = test.good(first[0]);
    test.deliver(keys[0], message);
    test.swarm.wakes(&mut awake);
    assert!(awake.contains(&keys[19]), "there is room for one, whoever makes it");
    assert_eq!(test.requests(keys[19]).len(), 1);
    test.swarm.set_download_limit(Some(1));
    assert_eq!(test.requests(keys[18]), []);
    test.swarm.set_download_limit(None);
    assert_eq!(test.requests(keys[18]).len(), 2);
}

/// Those who send nothing don't take the others' turn.
#[test]
fn a_limit_is_reached_in_spite_of_those_who_send_nothing() {
    let mut net = Network::new(Content::new(24, 4 * BLOCK_LEN), Duration::from_millis(20), 3);
    (0..6).for_each(|_| _ = net.add(true, Manner::Mute, MIB, 40));
    (0..3).for_each(|_| _ = net.add(true, Manner::Honest, MIB, 40));
    let leech = net.add(false, Manner::Honest, MIB, 40);
    let limit = 16 * u64::from(BLOCK_LEN);
    net.nodes[leech].swarm.set_download_limit(Some(limit));
    let mut most = 0;
    net.run(SECOND * 120, |net| {
        most = most.max(in_flight(&net.nodes[leech].swarm));
        net.nodes[leech].swarm.is_upload_only()
    });
    assert!(net.nodes[leech].done_at.is_some(), "not done");
    // What two seconds let through, and what those hold who send nothing.
    assert!(most > 0 && u64::from(most) <= 2 * limit / u64::from(BLOCK_LEN) + 6 * 2, "{most}");
}
