use super::network::{Manner, Network};
use super::*;

const MIB: f64 = 1024.0 * 1024.0;

fn all_done(net: &Network) -> bool {
    net.nodes.iter().all(|node| !node.alive || node.swarm.is_upload_only())
}

/// Nobody was banned by an honest node but these.
fn assert_banned_only(net: &Network, guilty: &[usize]) {
    for (at, node) in net.nodes.iter().enumerate() {
        let banned = (0..net.nodes.len()).filter(|n| node.swarm.list.is_banned(address(*n as u32).ip()));
        let innocent: Vec<usize> = banned.filter(|n| !guilty.contains(n)).collect();
        assert!(innocent.is_empty(), "node {at} banned {innocent:?}");
    }
}

#[test]
fn two_hundred_peers_complete_in_spite_of_churn_poison_lies_and_stalls() {
    let mut net = Network::new(Content::new(24, 2 * BLOCK_LEN), Duration::from_millis(40), 11);
    net.add(true, Manner::Honest, MIB, 40);
    net.add(true, Manner::Stalls, MIB, 40);
    let poisoner = net.add(true, Manner::Poison(20), MIB, 40);
    (0..2).for_each(|_| _ = net.add(true, Manner::Mute, MIB, 40));
    while net.nodes.len() < 200 {
        let manner = if net.nodes.len().is_multiple_of(17) { Manner::Stalls } else { Manner::Honest };
        net.add(false, manner, MIB / 4.0, 20);
    }
    // Some go before they are done, and one of the seeds with them.
    net.run(SECOND * 5, |_| false);
    for _ in 0..20 {
        let victim = net.rng.usize(5..200);
        net.kill(victim);
    }
    net.run(SECOND * 5, |_| false);
    net.kill(1);
    net.run(SECOND * 600, all_done);
    let late: Vec<usize> = (0..200).filter(|n| net.nodes[*n].alive && !net.nodes[*n].swarm.is_upload_only()).collect();
    assert!(late.is_empty(), "{} are not done: {late:?}", late.len());
    assert_banned_only(&net, &[poisoner]);
    let bans = net.nodes.iter().filter(|node| node.swarm.list.is_banned(address(poisoner as u32).ip())).count();
    let failed: u32 = net.nodes.iter().map(|node| node.ledger.failed).sum();
    assert!(bans > 0 && failed > 0, "the poisoner was banned by {bans}, {failed} pieces were bad");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut net = Network::new(Content::new(16, 2 * BLOCK_LEN), Duration::from_millis(20), 3);
        let start = net.now;
        net.add(true, Manner::Honest, MIB, 20);
        (0..20).for_each(|_| _ = net.add(false, Manner::Stalls, MIB / 2.0, 10));
        net.run(SECOND * 300, all_done);
        assert!(all_done(&net));
        let times: Vec<Duration> = net.nodes[1..].iter().map(|node| node.done_at.unwrap() - start).collect();
        let bytes: Vec<u64> = net.nodes.iter().map(|node| node.swarm.stats().uploaded).collect();
        (times, bytes)
    };
    assert_eq!(run(), run());
}

#[test]
fn peers_share_the_work_of_a_slow_seed() {
    let content = Content::new(128, 2 * BLOCK_LEN);
    let total = content.geometry.total();
    let mut net = Network::new(content, Duration::from_millis(20), 5);
    let start = net.now;
    let seed = net.add(true, Manner::Honest, MIB / 4.0, 50);
    (0..30).for_each(|_| _ = net.add(false, Manner::Honest, MIB / 4.0, 30));
    net.run(SECOND * 600, all_done);
    assert!(all_done(&net), "not done");
    let uploaded = net.nodes[seed].swarm.stats().uploaded;
    assert!(uploaded < total * 4, "the seed sent {uploaded} bytes, {} copies", uploaded / total);
    // One copy takes the seed 16 seconds, thirty would take eight minutes.
    let took = net.now - start;
    assert!(took < SECOND * 60, "{took:?}");
    let wasted: u64 = net.nodes.iter().map(|node| node.swarm.stats().wasted).sum();
    assert!(wasted < total * 30 / 20, "{wasted} bytes were wasted, of {}", total * 30);
}

#[test]
fn who_gives_more_gets_more() {
    let mut net = Network::new(Content::new(128, 2 * BLOCK_LEN), Duration::from_millis(20), 9);
    let start = net.now;
    net.add(true, Manner::Honest, MIB, 50);
    for n in 0..30 {
        let uplink = if n % 2 == 0 { MIB / 4.0 } else { MIB / 64.0 };
        net.add(false, Manner::Honest, uplink, 30);
    }
    net.run(SECOND * 900, all_done);
    assert!(all_done(&net));
    let mean = |parity: usize| {
        let times =
            net.nodes[1..].iter().skip(parity).step_by(2).map(|node| (node.done_at.unwrap() - start).as_secs_f64());
        times.sum::<f64>() / 15.0
    };
    let (generous, mean_ones) = (mean(0), mean(1));
    // The seed is fast enough for all to be done sooner or later: what differs is whom the others serve first.
    assert!(
        generous < mean_ones * 0.9,
        "who gave much was done after {generous} s, who gave little after {mean_ones} s"
    );
}

#[test]
fn one_fast_far_peer_is_used_to_its_full() {
    let mut net = Network::new(Content::new(96, 16 * BLOCK_LEN), Duration::from_millis(50), 1);
    let start = net.now;
    net.add(true, Manner::Honest, 10.0 * MIB, 5);
    net.add(false, Manner::Honest, MIB, 5);
    net.run(SECOND * 60, all_done);
    let took = (net.nodes[1].done_at.unwrap() - start).as_secs_f64();
    // 24 MiB at 10 MiB/s; up to two seconds until they connect, and slow start.
    assert!(took < 6.0, "{took} s");
    assert_eq!(net.nodes[1].swarm.stats().wasted, 0);
}
